"""Commands run as a user runs them: another process, another working directory, one thread each."""

import os
import subprocess
import sys

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*arguments, cwd=None, **options) -> subprocess.CompletedProcess:
    """`python *arguments`, with its output as text."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT, **options)
