"""What a script that made a model says at its end: what it wrote, and the command that draws pictures with it."""

import shlex
from collections.abc import Iterable
from pathlib import Path

from erasure.runs import ROOT


def print_written(files: Iterable[Path]) -> None:
    """Files by their paths, with their sizes."""
    print("wrote")
    for file in files:
        size = file.stat().st_size
        print(f"  {file}  ({size / 1e6:.1f} MB)" if size >= 1e5 else f"  {file}  ({size / 1e3:.1f} kB)")


def run_files(folder: Path) -> list[Path]:
    """The files of a run folder itself, by name."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def print_generate_command(model_name: str, *flags: str) -> None:
    """model_name: as generate-images.py takes it, from the working directory."""
    here = Path.cwd() == ROOT
    script, prompts = (path if here else str(ROOT / path) for path in _PATHS)
    command = [
        "python",
        script,
        "--model_name",
        model_name,
        *flags,
        "--prompts_path",
        prompts,
        "--save_path",
        "outputs",
    ]
    print(f"draw pictures with it:\n  {shlex.join(command)}", flush=True)


_PATHS = ("eval-scripts/generate-images.py", "data/quickstart.csv")
