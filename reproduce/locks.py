"""What one process at a time may use: a folder, a GPU. A process that ends, however it ends, holds nothing."""

import contextlib
import fcntl
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from erasure.errors import UserError

_PAUSE = 1.0  # seconds between two looks at whether a GPU is free


@contextlib.contextmanager
def held(path: Path, otherwise: str) -> Iterator[int]:
    """A lock file; yields its descriptor, which a process that is given it goes on holding. UserError if another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(otherwise) from None
        yield file.fileno()


def gpus() -> list[str]:
    """This machine's GPUs, as CUDA_VISIBLE_DEVICES names them; those that it leaves where it is set."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in visible.split(",") if name.strip()]
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return []
    return [str(number) for number, line in enumerate(found.splitlines()) if line.startswith("GPU")]


@contextlib.contextmanager
def gpus_of_its_own(folder: Path, count: int) -> Iterator[dict[str, str]]:
    """What the environment of a step must say so that it uses `count` GPUs that no other step of `folder` uses now.

    Nothing, where there are no more than that: then steps take turns, or a cluster has chosen for it.
    """
    names = gpus()
    if len(names) <= count:
        yield {}
        return
    with contextlib.ExitStack() as stack:
        chosen: list[str] = []
        while len(chosen) < count:
            for name in (name for name in names if name not in chosen):
                with contextlib.suppress(UserError):
                    stack.enter_context(held(folder / f"gpu-{os.uname().nodename}-{name}", "taken"))
                    chosen.append(name)
                if len(chosen) == count:
                    break
            else:
                time.sleep(_PAUSE)
        yield {"CUDA_VISIBLE_DEVICES": ",".join(chosen)}
