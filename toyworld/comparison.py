"""Two judged folders, before and after an erasure, as scores and pictures of a report."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from erasure.metrics.judging import Judgement, share_shown
from erasure.report import Picture, Score, Strip

GROUP_NAMES = {
    "style": ("other styles", "styles"),
    "object": ("other objects", "objects"),
    "person": ("other people", "people"),
    "figure": ("other figures", "figures"),
}  # kind -> its name when the target is one of them, and when it is not


def in_title_case(concept: str) -> str:
    return " ".join(word.capitalize() for word in concept.split())


def groups(judgements: list[Judgement], target: str) -> dict[str, list[Judgement]]:
    """Judgements by the lines of the table: the target concept, then the rest by kind."""
    target_kind = next((j.concept_kind for j in judgements if j.concept == target), None)
    found = {in_title_case(target): [j for j in judgements if j.concept == target]}
    for kind, names in GROUP_NAMES.items():
        found[names[0 if kind == target_kind else 1]] = [
            j for j in judgements if j.concept_kind == kind and j.concept != target
        ]
    return {name: items for name, items in found.items() if items}


def compare(before: list[Judgement], after: list[Judgement], target: str) -> list[Score]:
    """How often each group is recognised before and after; the target's line comes first."""
    old, new = groups(before, target), groups(after, target)
    return [
        Score(name, share_shown(old[name]), share_shown(new[name]), "erase" if items[0].concept == target else "keep")
        for name, items in new.items()
    ]


def strips(
    before: list[Judgement],
    after: list[Judgement],
    folders: tuple[str | os.PathLike, str | os.PathLike],
    target: str,
    most: int = 10,
) -> list[Strip]:
    """One strip a group, at most `most` pictures each: every concept's first picture, then the second ones."""
    old = {(j.case_number, j.k): j for j in before}
    shown = []
    for name, items in groups(after, target).items():
        erased = items[0].concept == target
        pictures = [_picture(old[j.case_number, j.k], j, folders, erased) for j in list(_spread(items))[:most]]
        note = "should be gone" if erased else "should stay as they were"
        shown.append(Strip(name if erased else name.capitalize(), pictures, note))
    return shown


def _spread(items: list[Judgement]) -> Iterator[Judgement]:
    """The first judgement of each concept, then the second of each, and so on."""
    by_concept: dict[str, list[Judgement]] = {}
    for item in items:
        by_concept.setdefault(item.concept, []).append(item)
    for turn in range(max(map(len, by_concept.values()))):
        yield from (queue[turn] for queue in by_concept.values() if turn < len(queue))


def _picture(old: Judgement, new: Judgement, folders: tuple, erased: bool) -> Picture:
    before, after = (_load(Path(folder) / j.file) for folder, j in zip(folders, (old, new), strict=True))
    # an erased concept should be recognised before and not after, any other one both times
    return Picture(new.prompt, before, after, old.answer, new.answer, old.shown, new.shown != erased)


def _load(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
