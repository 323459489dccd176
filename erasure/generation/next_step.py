"""What a script that made a model says at its end: what it wrote, and the command that draws pictures with it."""

import shlex
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from erasure.runs import ROOT

_SCRIPT, _PROMPTS = "eval-scripts/generate-images.py", "data/quickstart.csv"


def print_written(files: Iterable[Path]) -> None:
    """Files by their folders, with their sizes."""
    for folder, inside in groupby(files, key=lambda file: file.parent):
        print(f"wrote {folder}:")
        for file in inside:
            size = file.stat().st_size
            print(f"  {file.name}  ({size / 1e6:.1f} MB)" if size >= 1e5 else f"  {file.name}  ({size / 1e3:.1f} kB)")


def run_files(folder: Path) -> list[Path]:
    """The files of a run folder itself, by name."""
    return sorted(file for file in folder.iterdir() if file.is_file() and not file.name.startswith("."))


def print_generate_command(model_name: str, *flags: str) -> None:
    """model_name: as generate-images.py takes it, from the working directory."""
    script, prompts = (path if Path.cwd() == ROOT else str(ROOT / path) for path in (_SCRIPT, _PROMPTS))
    command = ["python", script, "--model_name", model_name, *flags]
    command += ["--prompts_path", prompts, "--save_path", "outputs"]
    print(f"draw pictures with it:\n  {shlex.join(command)}", flush=True)
