"""Commands run as a user runs them: another process, another working directory, one thread each."""

import importlib.util
import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*arguments, cwd=None, **options) -> subprocess.CompletedProcess:
    """`python *arguments`, with its output as text."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT, **options)


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
