"""FID of every class of two folders of class folders 0, 1, ... (SepCE's FID_eval.py). Imports no torch at first.

The published script dropped the last incomplete batch, 10 of 250 images, and which ones hung on the order of the directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics.definitions import METRICS
from erasure.metrics.image_folders import class_folders
from erasure.metrics.intervals import Interval
from erasure.runs import write_csv, write_json

STATISTICS = ".npz"


def pairs_of(original: Path, edited: Path) -> dict[int, tuple[Path, Path]]:
    """{class: (place in the original, in the edited)} of the classes of both. UserError for none."""
    first, second = _places(original), _places(edited)
    found = {number: (first[number], place) for number, place in second.items() if number in first}
    if not found:
        raise UserError(
            f"{original} and {edited} have no folder 0, 1, ... in common; methods/sepce/move_image.py makes them"
        )
    return found


def _places(folder: Path) -> dict[int, Path]:
    files = (
        {int(f.stem): f for f in folder.glob(f"*{STATISTICS}") if re.fullmatch(r"\d+", f.stem)}
        if folder.is_dir()
        else {}
    )
    return dict(sorted((files | class_folders(folder)).items()))


def measure(original: Path, edited: Path, network, batch_size: int = 15, drop_last: bool = False) -> Interval:
    """FID of two folders of pictures or files of statistics, with its interval; without room for one it is the value itself.

    n: pictures of the edited model. UserError for a place of fewer than two pictures.
    """
    from torch import Tensor

    from erasure.metrics import frechet

    sides = [_features(place, network, batch_size, drop_last) for place in (original, edited)]
    known = [side if isinstance(side, frechet.Statistics) else frechet.statistics(side) for side in sides]
    value = frechet.frechet_distance(*known)
    y, x = sides if isinstance(sides[1], Tensor) else sides[::-1]  # FID is symmetric
    sizes = [len(side) for side in sides if isinstance(side, Tensor)]
    if sizes and frechet.enough_for_interval(*sizes):
        interval = frechet.frechet_interval(x, y, value)
        return Interval(value, interval.low, interval.high, known[1].n)
    return Interval(value, value, value, known[1].n)


def _features(place: Path, network, batch_size: int, drop_last: bool):
    from erasure.metrics import frechet
    from erasure.metrics.inception import features_of

    if place.is_file():
        return frechet.read_statistics(place)
    found = features_of(place, network, batch_size=batch_size)
    if drop_last and len(found) > batch_size:
        found = found[: len(found) // batch_size * batch_size]
    if len(found) < 2:
        raise UserError(f"{place} holds only one image")
    return found


def write_files(stem: Path, found: Mapping[int, Interval], facts: Mapping) -> None:
    """{stem}.csv, a row a class, and {stem}.summary.json; the value is the mean over classes, which papers print none of."""
    kept = {number: _kept(one) for number, one in found.items()}
    names = ("value", "low", "high", "n")
    rows = [[number, *(repr(one[name]) if name in one else "" for name in names)] for number, one in kept.items()]
    write_csv(stem.with_name(stem.name + ".csv"), [["class", "fid", "low", "high", "images"], *rows])
    values = [one.value for one in found.values()]
    summary = {
        "metric": METRICS["fid"].definition.partition("; KID")[0],
        "value": {"value": sum(values) / len(values), "n": sum(one.n for one in found.values())},
        "interval": "95 %, delete-a-group jackknife, 10 groups; none below 20 images",
        "n_images": sum(one.n for one in found.values()),
        "per_group": {str(number): one for number, one in kept.items()},
        "definition": dict(facts),
    }
    write_json(stem.with_name(stem.name + ".summary.json"), summary)


def _kept(one: Interval) -> dict[str, float | int]:
    """Without bounds where there was no room for them."""
    return {"value": one.value, "n": one.n} if one.low == one.high else one.as_dict()
