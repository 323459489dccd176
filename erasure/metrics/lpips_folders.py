"""LPIPS between the pictures of two folders, as the published scripts pair them up, average and write it.

`by_case`: ESD's and UCE's, two flat folders and a prompt CSV; `by_class`: SepCE's, folders 0, 1, ... in each. The network
comes in as a callable (x0, x1) -> [B], so that any can be one.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from erasure.errors import UserError
from erasure.metrics import case_csv
from erasure.metrics.definitions import meaning
from erasure.metrics.image_folders import case_of, class_folders, images_by_case, images_in
from erasure.metrics.intervals import bootstrap_mean
from erasure.metrics.network_inputs import Preprocess, read_image
from erasure.runs import write_csv

Distance = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
_BATCH = 32


@dataclass(frozen=True)
class Pair:
    """Two pictures of one name; `group` is what the mean is taken over: a case number or a class."""

    group: int
    original: Path
    edited: Path


@dataclass
class Pairs:
    """What is to be compared; `groups` in order, also those without a picture."""

    groups: list[int]
    pairs: list[Pair] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)  # pictures of the original folder without a partner

    def add(self, group: int, original: Path, edited_folder: Path) -> None:
        edited = edited_folder / original.name
        if edited.is_file():
            self.pairs.append(Pair(group, original, edited))
        else:
            self.missing.append(str(edited))


# ---- which pictures ------------------------------------------------------------------------------------------------


def by_case(original: str | os.PathLike, edited: str | os.PathLike, cases: Sequence[int], image: str = "") -> Pairs:
    """Pictures `{case}_{k}` of two flat folders; `image`: only the one of that name (UCE's --image)."""
    files, found = images_by_case(original), Pairs(list(cases))
    _folder(edited)
    for case in cases:
        for path in files.get(case, ()):
            if not image or path.name == image:
                found.add(case, path, Path(edited))
    return _some(found, original, edited)


def by_class(original: str | os.PathLike, edited: str | os.PathLike, cases: Sequence[int] | None = None) -> Pairs:
    """Pictures of one name in the class folders 0, 1, ... of both; `cases`: only those of a CSV (V1)."""
    folders, partners = class_folders(original), class_folders(edited)
    wanted = None if cases is None else set(cases)
    found = Pairs(sorted(folders.keys() | partners.keys()))
    for number, folder in folders.items():
        for path in (path for images in images_by_case(folder).values() for path in images):
            if wanted is None or case_of(path.name) in wanted:
                found.add(number, path, Path(edited) / partners.get(number, folder).name)
    return _some(found, original, edited)


def by_name(original: str | os.PathLike, edited: str | os.PathLike, wanted: Callable[[str], bool]) -> Pairs:
    """Pictures of one name in two flat folders, of any names that are `wanted`; grouped by case, others as -1 (RECE's)."""
    _folder(edited)
    found = Pairs([])
    for path in images_in(original):
        if wanted(path.name):
            case = case_of(path.name)
            found.add(-1 if case is None else case, path, Path(edited))
    found.groups = sorted({pair.group for pair in found.pairs})
    return _some(found, original, edited)


def has_classes(folder: str | os.PathLike) -> bool:
    """Whether pictures lie in class folders (SepCE) rather than in the folder itself (ESD)."""
    return bool(class_folders(folder)) and not images_by_case(folder)


def _folder(path: str | os.PathLike) -> None:
    if not Path(path).is_dir():
        raise UserError(f"no folder {path}")


def _some(found: Pairs, original, edited) -> Pairs:
    if not found.pairs:
        raise UserError(
            f"{original} and {edited} have no picture {{case_number}}_{{k}}.png in common (of those asked for)"
        )
    return found


# ---- measuring -----------------------------------------------------------------------------------------------------


def measure(
    pairs: Sequence[Pair],
    distance: Distance,
    preprocess: Preprocess,
    progress: bool = True,
    batch_size: int = _BATCH,
    name: str = "LPIPS",
) -> list:
    """The distance of every pair: a number, or a list of them where `distance` gives [B, n].

    UserError for a picture that cannot be read, and for a pair of different sizes.
    """
    values: list = []
    waiting: list[tuple[torch.Tensor, torch.Tensor]] = []

    def flush():
        if waiting:
            x0, x1 = (torch.stack(side) for side in zip(*waiting, strict=True))
            values.extend(distance(x0, x1).double().tolist())
            waiting.clear()

    for pair in tqdm(pairs, desc=name, unit=" pairs", disable=not progress):
        x0, x1 = preprocess(read_image(pair.original)), preprocess(read_image(pair.edited))
        if x0.shape != x1.shape:
            raise UserError(f"{pair.original} and {pair.edited} differ in size: {_size(x0)} and {_size(x1)}")
        if waiting and (waiting[0][0].shape != x0.shape or len(waiting) == batch_size):
            flush()
        waiting.append((x0, x1))
    flush()
    if not np.isfinite(values).all():
        raise UserError(f"{name} is not a number for some pictures: the network's weights are damaged")
    return values


def pixel_error(x0: torch.Tensor, x1: torch.Tensor) -> torch.Tensor:
    """[B] mean absolute differences of pictures [B, 3, h, w], in their unit."""
    return (x0 - x1).abs().mean(dim=(1, 2, 3), dtype=torch.float64)


def means(found: Pairs, values: Sequence[float]) -> dict[int, float]:
    """Mean of every group, NaN where there is no pair."""
    by_group: dict[int, list[float]] = {group: [] for group in found.groups}
    for pair, value in zip(found.pairs, values, strict=True):
        by_group[pair.group].append(value)
    return {group: sum(v) / len(v) if v else math.nan for group, v in by_group.items()}


def _size(x: torch.Tensor) -> str:
    return f"{x.shape[2]}x{x.shape[1]}"


# ---- files ---------------------------------------------------------------------------------------------------------


def write_case_columns(
    prompts_path: str | os.PathLike, columns: dict[str, dict[int, float]], path: str | os.PathLike
) -> None:
    """ESD's file: the prompt CSV with a column of row numbers in front and those of numbers behind.

    columns: name -> case -> number, NaN for an empty cell, as a case without pictures has.
    """
    table = case_csv.read(prompts_path)
    texts = {case: ["" if math.isnan(v[case]) else repr(v[case]) for v in columns.values()] for case in table.cases}
    case_csv.write(path, table, list(columns), {case: [cells] for case, cells in texts.items()})


def write_pair_csv(
    found: Pairs, values: Sequence, group: str, path: str | os.PathLike, columns: Sequence[str] = ("lpips",)
) -> None:
    """One row a pair: its case or class (`group` names the column), the files, the distance or distances."""
    lines: list[list] = [[group, "original", "edited", *columns]]
    for pair, value in zip(found.pairs, values, strict=True):
        numbers = value if isinstance(value, list) else [value]
        lines.append([pair.group, pair.original, pair.edited, *map(repr, numbers)])
    write_csv(path, lines)


def write_class_csv(found: Pairs, values: Sequence[float], path: str | os.PathLike, column: str = "lpips") -> None:
    """One row a class: pictures, mean distance (empty without pictures)."""
    counts = {group: sum(pair.group == group for pair in found.pairs) for group in found.groups}
    lines = [["class", "images", column]]
    lines += [[g, counts[g], "" if math.isnan(m) else repr(m)] for g, m in means(found, values).items()]
    write_csv(path, lines)


def summary(found: Pairs, values: Sequence[float], definition: dict, metric: str = "lpips") -> dict:
    """The mean over all pairs with its interval, means of the groups, and what was measured how; ready for JSON."""
    groups = {str(g): None if math.isnan(m) else m for g, m in means(found, values).items()}
    return {
        "metric": meaning(metric),
        "value": bootstrap_mean(values).as_dict(),
        "interval": "bootstrap of the pairs, 95 %",
        "n_images": len(values),
        "n_missing": len(found.missing),
        "missing": found.missing,
        "per_group": groups,
        "definition": definition,
    }
