"""A process that has imported what takes seconds, and forks another for every command that it reads.

`process.start` talks to it: a line of JSON in, the new process's id out, and its exit code in a file. Only packages of others
are imported beforehand, and nothing is computed: our own code is loaded by the process that runs it.
"""

import atexit
import importlib
import json
import os
import runpy
import signal
import sys
import threading
import traceback

PACKAGES = (
    "torch",
    "torchvision",
    "numpy",
    "PIL.Image",
    "omegaconf",
    "safetensors.torch",
    "tqdm",
    "torch._dynamo",
    "lightning.pytorch",
)


def next_job():
    """In a new process, what it is to run. In this one, nothing, once no more is asked for."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the guardians
    for line in sys.stdin:
        if os.fork():
            continue
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        job = json.loads(line)
        code = job.pop("code")
        pid = os.fork()
        if not pid:
            return job
        print(pid, flush=True)
        with open(f"{code}.part", "w") as file:
            file.write(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        os.rename(f"{code}.part", code)
        os._exit(0)
    return None


def become(arguments, cwd, out, err):
    """Run what `python *arguments` would, from its directory, with its output in two files."""
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, out, os.O_WRONLY), (2, err, os.O_WRONLY)):
        file = os.open(name, flags)
        os.dup2(file, number)
        os.close(file)
    os.chdir(cwd)
    if arguments[0].startswith("-m"):
        module, *rest = [text for text in (arguments[0][2:], *arguments[1:]) if text]
        sys.argv, sys.path[0] = [module, *rest], cwd
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, os.path.dirname(os.path.abspath(arguments[0]))
        runpy.run_path(arguments[0], run_name="__main__")


def end(code) -> None:
    """As the interpreter ends, but for taking every imported module apart, which takes seconds."""
    if isinstance(code, str):
        print(code, file=sys.stderr)
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else bool(code))


if __name__ == "__main__":
    for package in PACKAGES:
        importlib.import_module(package)
    if job := next_job():
        try:
            become(**job)
        except SystemExit as ended:
            end(ended.code)
        except BaseException:
            traceback.print_exc()
            end(1)
        end(0)
