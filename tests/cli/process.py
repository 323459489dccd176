"""Commands run as a user runs them: another process, another working directory, one thread each."""

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*arguments, cwd=None, env=ENVIRONMENT, **options) -> subprocess.CompletedProcess:
    """`python *arguments`, with its output as text; from the nursery, which saves the seconds that imports take."""
    command = [sys.executable, *map(str, arguments)]
    if _needs_its_own(command, env) or options:
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=env, **options)
    started = start(*arguments, cwd=cwd, env=env)
    out, err = started.communicate()
    return subprocess.CompletedProcess(command, started.returncode, out, err)


def start(*arguments, cwd=None, env=ENVIRONMENT):
    """`python *arguments`, running: a Popen, or what is like it."""
    command = [sys.executable, *map(str, arguments)]
    if _needs_its_own(command, env):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(command, cwd=cwd, env=env, **pipes)
    return Started(command[1:], str(cwd or os.getcwd()))


def _needs_its_own(command: list[str], env: dict) -> bool:
    return not hasattr(os, "fork") or env != ENVIRONMENT or command[1] == "-c"


class Started:
    """A process of the nursery, with the part of Popen's interface that tests use."""

    def __init__(self, arguments: list[str], cwd: str):
        self.returncode = None
        self._place = tempfile.TemporaryDirectory()
        self._files = {name: Path(self._place.name, name) for name in ("out", "err", "code")}
        for name in ("out", "err"):
            self._files[name].touch()
        nursery = _nursery()
        files = {name: str(file) for name, file in self._files.items()}
        nursery.stdin.write(json.dumps({"arguments": arguments, "cwd": cwd} | files) + "\n")
        nursery.stdin.flush()
        self.pid = int(nursery.stdout.readline())

    def poll(self) -> int | None:
        if self.returncode is None and self._files["code"].exists():
            self.returncode = int(self._files["code"].read_text())
        return self.returncode

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.005)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self) -> tuple[str, str]:
        self.wait()
        return tuple(self._files[name].read_text(encoding="utf-8") for name in ("out", "err"))


@functools.cache
def _nursery() -> subprocess.Popen:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    nursery = subprocess.Popen([sys.executable, Path(__file__).with_name("nursery.py")], env=ENVIRONMENT, **pipes)
    atexit.register(nursery.stdin.close)  # which ends it
    return nursery


def same_threads() -> dict:
    """An environment in which a process computes with as many threads as this one: bits depend on it."""
    import torch

    return ENVIRONMENT | {"OMP_NUM_THREADS": str(torch.get_num_threads())}


def help_without_torch(script) -> str:
    """What `script --help` prints; it has to end well, and without having imported torch."""
    code = (
        f"import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path({str(script)!r}, run_name='__main__')\n"
        "except SystemExit as e: assert e.code == 0\n"
        "assert 'torch' not in sys.modules"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    return done.stdout


def load(script):
    """A script as a module, whatever its name."""
    spec = importlib.util.spec_from_file_location(f"{script.stem.replace('-', '_')}_script", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
