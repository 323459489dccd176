"""CLIP score case by case, as RECE's clip_score.py averages and writes it: the mean of a case's pictures, then of the cases."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics import case_csv
from erasure.metrics.case_csv import PromptTable
from erasure.metrics.definitions import METRICS, meaning
from erasure.metrics.image_folders import images_by_case
from erasure.metrics.image_prompts import ImagePrompt
from erasure.metrics.intervals import bootstrap_mean
from erasure.runs import write_csv

FILE, COLUMN = "clip_scores.csv", "clip"


def folder_of(path: str | os.PathLike) -> Path:
    """Where RECE's scripts keep the pictures: the folder imgs of `path`, else `path`."""
    inner = Path(path) / "imgs"
    return inner if inner.is_dir() else Path(path)


def pairs_of(folder: Path, table: PromptTable) -> dict[int, list[ImagePrompt]]:
    """Case -> its pictures with the prompt of its row, for the cases that have some. UserError if none has."""
    by_case = images_by_case(folder)
    prompts = {row.case_number: row.prompt for row in table.rows}
    found = {c: [ImagePrompt(path, p) for path in by_case[c]] for c, p in prompts.items() if by_case.get(c)}
    if not found:
        raise UserError(f"{folder} holds no picture {{case_number}}_{{k}}.png of a row of the prompt CSV")
    return found


def case_means(pairs: Mapping[int, Sequence[ImagePrompt]], values: Sequence[float]) -> dict[int, float]:
    """Case -> mean of its pictures' values, which come in the order of `pairs`."""
    left = iter(values)
    return {case: math.fsum(next(left) for _ in ones) / len(ones) for case, ones in pairs.items()}


def counted(table: PromptTable, means: Mapping[int, float], keep_empty: bool = False) -> dict[int, float]:
    """The cases that go into the average: without `keep_empty` a row with any empty cell is left out, as published.

    UserError if none is left.
    """
    full = {case for case, cells in zip(table.cases, table.cells, strict=True) if all(cells)}
    kept = {case: mean for case, mean in means.items() if keep_empty or case in full}
    if not kept:
        raise UserError(
            "every row with a picture has an empty cell, which leaves it out: --keep_empty_cells counts them"
        )
    return kept


def write_scores(path: str | os.PathLike, table: PromptTable, kept: Mapping[int, float]) -> float:
    """The published CSV: the counted rows with a column clip, then a row "average". Returns that average."""
    results = {case: [[repr(value)]] for case, value in kept.items()}
    lines = case_csv.lines(table, [COLUMN], results, every_case=False)
    average = math.fsum(kept.values()) / len(kept)
    first = lines[0].index("case_number") if "case_number" in lines[0] else 0
    last = ["average" if place == first else "" for place in range(len(lines[0]) - 1)]
    write_csv(path, [*lines, [*last, repr(average)]])
    return average


def summary(
    kept: Mapping[int, float],
    pairs: Mapping[int, Sequence],
    values: Sequence[float],
    missing: Sequence[int],
    facts: dict,
) -> dict:
    """The average with its interval, and what was left out; ready for JSON."""
    return {
        "metric": meaning("clip_cases"),
        "value": bootstrap_mean(list(kept.values())).as_dict(),
        "interval": METRICS["clip_cases"].interval,
        "n_images": len(values),
        "n_cases": len(kept),
        "left_out_for_empty_cells": sorted(pairs.keys() - kept.keys()),
        "n_missing": len(missing),
        "missing": list(missing),
        "mean_of_images": math.fsum(values) / len(values),
        "definition": facts,
    }
