"""Pictures of a report from what a judge said of folders of images."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image

from erasure.metrics.judging import Judgement
from erasure.report.content import Picture, Shown


def spread(items: Sequence[Judgement]) -> Iterator[Judgement]:
    """The first judgement of each concept, then the second of each, and so on."""
    by_concept: dict[str, list[Judgement]] = {}
    for item in items:
        by_concept.setdefault(item.concept, []).append(item)
    for turn in range(max(map(len, by_concept.values()))):
        yield from (queue[turn] for queue in by_concept.values() if turn < len(queue))


def picture(judgements: Sequence[Judgement], folders: Sequence[str | os.PathLike], erased: bool) -> Picture:
    """The same case in every version, the base first."""
    shown = []
    for i, (j, folder) in enumerate(zip(judgements, folders, strict=True)):
        # an erased concept should be recognised in the base and nowhere else, any other one everywhere
        good = not j.shown if erased and i else j.shown
        shown.append(Shown(_load(Path(folder) / j.file), j.answer, good))
    return Picture(judgements[0].prompt, shown)


def _load(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.convert("RGB")
