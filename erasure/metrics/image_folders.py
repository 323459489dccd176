"""Which images a folder holds, in numeric order: of any name, or `{case_number}_{k}` with a picture's suffix."""

from __future__ import annotations

import os
import re
from pathlib import Path

from erasure.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg")
_NAME = re.compile(r"(?P<case>\d+)_(?P<k>\d+)\.(png|jpe?g)", re.IGNORECASE)


def images_in(folder: str | os.PathLike, recursive: bool = False) -> list[Path]:
    """PNG and JPEG files of a folder, numbers in their names by value. UserError if there are none."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder of images {folder}")
    found = folder.rglob("*") if recursive else folder.iterdir()
    images = [p for p in found if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()]
    if not images:
        raise UserError(f"{folder} holds no images ({', '.join(SUFFIXES)})")
    return sorted(images, key=lambda path: natural(path.relative_to(folder).as_posix()))


def natural(name: str) -> list[str | int]:
    """A key that sorts `2_10.png` behind `2_9.png`."""
    parts = re.split(r"(\d+)", name)  # texts at even places, digits at odd ones
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]


def case_of(name: str) -> int | None:
    """The case number of an image's file name; None for any other name."""
    match = _NAME.fullmatch(name)
    return int(match["case"]) if match else None


def images_by_case(folder: str | os.PathLike) -> dict[int, list[Path]]:
    """Case number -> images of it, by k; cases in rising order. UserError for a folder that is not there."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder of images {folder}")
    found = []
    for path in folder.iterdir():
        if (match := _NAME.fullmatch(path.name)) and path.is_file():
            found.append((int(match["case"]), int(match["k"]), path.name, path))
    by_case: dict[int, list[Path]] = {}
    for case, _, _, path in sorted(found):
        by_case.setdefault(case, []).append(path)
    return by_case


def class_folders(folder: str | os.PathLike) -> dict[int, Path]:
    """Subfolders whose names are numbers, in rising order: a class each."""
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no folder {folder}")
    found = {int(path.name): path for path in folder.iterdir() if re.fullmatch(r"\d+", path.name) and path.is_dir()}
    return dict(sorted(found.items()))
