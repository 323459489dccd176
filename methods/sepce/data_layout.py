"""What the published scripts expect to find: pictures by concept (erasing) and by class, training and held out (classifier).

generate-data.py draws them into `{path}/{index}`; from there

    {path}/{concept}/            all of them, what CiE.py and its like train on
    {path}/train/{index}/, {path}/eval/{index}/     split by case number
    {path}/classes.csv           which class is which
"""

from __future__ import annotations

import math
import re
import shlex
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics.image_folders import images_by_case
from erasure.prompts import read_csv
from erasure.runs import atomic_path
from methods.sepce.class_lists import ClassList, PictureClass
from methods.sepce.placing import link, same

TRAIN, EVAL, CLASSES = "train", "eval", "classes.csv"
SEEDS = "seeds.csv"  # that generate-data.py leaves beside its pictures
_RESERVED = (TRAIN, EVAL)


@dataclass(frozen=True)
class Drawn:
    """A class and the pictures drawn of it, by case."""

    picture_class: PictureClass
    folder: Path
    cases: dict[int, list[Path]]

    @property
    def concept_folder(self) -> Path | None:
        """Where erasing finds them; None for the class without a prompt. UserError for a prompt that names no folder."""
        name = self.picture_class.prompt
        if not name:
            return None
        if re.search(r'[/\\:*?"<>|\x00-\x1f]', name) or name.startswith(".") or name.casefold() in _RESERVED:
            raise UserError(f"prompt {name!r} cannot name a folder")
        if name.isdecimal():
            raise UserError(f"prompt {name!r} would be the folder of a class")
        return self.folder.parent / name


def find_drawn(path: Path, classes: ClassList, allow_missing: bool = False) -> list[Drawn]:
    """The pictures of every class. UserError, with the command that draws them, for a class without any."""
    found = []
    for one in classes:
        folder = path / str(one.index)
        cases = images_by_case(folder) if folder.is_dir() else {}
        if cases:
            found.append(Drawn(one, folder, cases))
        elif not allow_missing:
            raise UserError(
                f"no pictures of class {one.index} ({one.name}) in {folder}: python eval-scripts/generate-data.py "
                f"--prompt {shlex.quote(one.prompt)} --model_name '{one.index}' --save_path {shlex.quote(str(path))} "
                "(--allow_missing: do without)"
            )
    if not found:
        raise UserError(f"{path} holds no pictures of any class")
    return found


def split(cases: Iterable[int], train_share: float) -> tuple[list[int], list[int]]:
    """(training, held out): the lowest case numbers train, so that 1000 cases at 0.7 are 0 ... 699 and 700 ... 999."""
    ordered = sorted(cases)
    cut = math.floor(train_share * len(ordered) + 0.5)
    return ordered[:cut], ordered[cut:]


def placements(drawn: Drawn, train_share: float) -> Iterator[tuple[Path, Path, Path | None]]:
    """(picture, where it also goes, where an earlier split may have put it) of a class."""
    number, root = str(drawn.picture_class.index), drawn.folder.parent
    for cases, here, there in zip(split(drawn.cases, train_share), (TRAIN, EVAL), (EVAL, TRAIN), strict=True):
        for picture in (picture for case in cases for picture in drawn.cases[case]):
            yield picture, root / here / number / picture.name, root / there / number / picture.name
    if concept := drawn.concept_folder:
        for picture in (picture for pictures in drawn.cases.values() for picture in pictures):
            yield picture, concept / picture.name, None


def place(picture: Path, target: Path, stale: Path | None, copy: bool = False, overwrite: bool = False) -> bool:
    """Put a picture where it belongs; True if it was not there. What lies on the wrong side of the split goes.

    Order matters for a kill in between: a picture may be on both sides for a moment, but never on none.
    """
    new = link(picture, target, copy, overwrite)
    if stale is not None and stale.exists():
        if not same(picture, stale):
            raise UserError(f"{stale} is another picture than {picture}: remove it, or put it elsewhere")
        stale.unlink()
    return new


def strangers(drawn: Drawn) -> list[Path]:
    """Pictures among the training or held-out ones of a class that are not among those drawn."""
    names = {picture.name for pictures in drawn.cases.values() for picture in pictures}
    folders = (drawn.folder.parent / side / str(drawn.picture_class.index) for side in (TRAIN, EVAL))
    there = (p for folder in folders if folder.is_dir() for ps in images_by_case(folder).values() for p in ps)
    return [picture for picture in there if picture.name not in names]


def twins(drawn: Drawn, train_share: float) -> int:
    """Held-out cases drawn from a seed that a training case has as well: the same picture. 0 where no seeds are known."""
    file = drawn.folder / SEEDS
    if not file.is_file():
        return 0
    seeds = {row.case_number: row.evaluation_seed for row in read_csv(file)}
    training, held_out = split(drawn.cases, train_share)
    known = {seeds.get(case) for case in training} - {None}
    return sum(seeds.get(case) in known for case in held_out)


def write_classes(classes: ClassList, path: Path) -> None:
    """Keep the list beside the pictures: the classifier reads it there."""
    target = path / CLASSES
    if Path(classes.source).resolve() != target.resolve():
        with atomic_path(target) as temporary:
            shutil.copyfile(classes.source, temporary)
