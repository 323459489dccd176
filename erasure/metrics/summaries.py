"""Results that the metric scripts left behind, read again: summaries as a table, per-image CSVs as means and pairs. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.metrics import paired
from erasure.metrics.definitions import METRICS, meaning
from erasure.metrics.harmonic import celebrity_score, object_score
from erasure.metrics.intervals import bootstrap_mean, wilson
from erasure.prompts import read_table
from erasure.runs import find, read_json

SUFFIX = ".summary.json"
KEYS = ("file", "edited")  # columns of per-image CSVs that name the image
_YES_NO = {"0": False, "1": True, "False": False, "True": True}


@dataclass(frozen=True)
class Summary:
    """The value of a summary with its interval (None without one); random: made with random weights, so meaningless."""

    file: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int | None
    random: bool


# ---- summaries -----------------------------------------------------------------------------------------------------


def read_summary(path: str | os.PathLike) -> Summary:
    """UserError for a file that is no summary of a metric script."""
    path = find(path)
    try:
        content = read_json(path)
        found = content["value"]
        n = found.get("n", content.get("n_images"))
        bounds = (found.get("low"), found.get("high"))
        return Summary(str(path), content["metric"], float(found["value"]), *bounds, n, _random(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is not the summary of a metric: no metric and value in it") from None


def collect(places: Iterable[str | os.PathLike]) -> tuple[list[Summary], list[str]]:
    """(summaries, files that have no value) of files, and of all *.summary.json below folders. UserError for none."""
    files: list[Path] = []
    for place in map(find, places):
        files += sorted(place.rglob("*" + SUFFIX)) if place.is_dir() else [place]
    found, without = [], []
    for file in files:
        try:
            found.append(read_summary(file))
        except UserError:
            without.append(str(file))
    if not found:
        raise UserError(f"no summaries (*{SUFFIX}) with a value in {', '.join(map(str, places))}")
    return found, without


def table(summaries: Sequence[Summary]) -> list[list]:
    """Rows for a CSV, the header first."""
    rows = [[s.file, s.value, _cell(s.low), _cell(s.high), _cell(s.n), int(s.random), s.metric] for s in summaries]
    return [["file", "value", "low", "high", "n", "random_weights", "metric"], *rows]


def _cell(value) -> Any:
    return "" if value is None else value


def _random(content: Any) -> bool:
    """Whether random_weights is true anywhere in it."""
    if isinstance(content, dict):
        return content.get("random_weights") is True or any(map(_random, content.values()))
    return isinstance(content, list) and any(map(_random, content))


# ---- scores of several summaries -----------------------------------------------------------------------------------


def harmonic(erased: Summary, kept: Summary, synonyms: Summary | None = None) -> dict:
    """H_c, or H_o with synonyms; the interval is that of the accuracies' ends, which is wider than 95 %. Ready for JSON."""
    parts = [erased, kept, *([synonyms] if synonyms else [])]
    if bad := [one for one in parts if not 0 <= one.value <= 1]:
        raise UserError(f"{bad[0].file}: {bad[0].value} is no accuracy from 0 to 1")
    score = object_score if synonyms else celebrity_score
    # gone is good: the low end of the score has the high end of what was to be gone
    worst = [_end(one, "low" if one is kept else "high") for one in parts]
    best = [_end(one, "high" if one is kept else "low") for one in parts]
    numbers = {"value": score(*(one.value for one in parts)), "low": score(*worst), "high": score(*best)}
    return _scored("H_o" if synonyms else "H_c", meaning("harmonic"), numbers, parts)


def difference(kept: Summary, erased: Summary) -> dict:
    """H_a, kept minus erased CLIP scores; the interval is that of the ends. Ready for JSON."""
    low = _end(kept, "low") - _end(erased, "high")
    high = _end(kept, "high") - _end(erased, "low")
    numbers = {"value": kept.value - erased.value, "low": low, "high": high}
    return _scored("H_a", "CLIP score of the kept prompts minus that of the erased ones", numbers, [kept, erased])


def _end(one: Summary, name: str) -> float:
    end = getattr(one, name)
    return one.value if end is None else end


def _scored(name: str, metric: str, numbers: dict, parts: Sequence[Summary]) -> dict:
    return {
        "score": name,
        "metric": metric,
        "value": numbers,
        "interval": "from the ends of the parts' intervals, at least 95 %",
        "n_images": sum(one.n or 0 for one in parts),
        "random_weights": any(one.random for one in parts),
        "parts": {one.file: {"value": one.value, "low": one.low, "high": one.high} for one in parts},
    }


# ---- per-image CSVs ------------------------------------------------------------------------------------------------


def read_column(path: str | os.PathLike, column: str) -> dict[str, float | bool]:
    """Name of an image -> its cell: True and False for 0 and 1 throughout, else numbers; empty cells are left out.

    UserError if there is no such column, no column of file names, a cell that is no number, or a name twice.
    """
    header, rows = read_table(path)
    if column not in header:
        raise UserError(f"{path}: no column {column}; it has {', '.join(header)}")
    key = next((name for name in KEYS if name in header), None)
    if key is None:
        raise UserError(f"{path}: no column of file names ({' or '.join(KEYS)})")
    cells: dict[str, str] = {}
    for row in rows:
        name = Path(row[key]).name
        if name in cells:
            raise UserError(f"{path}: {name} is there more than once, so images cannot be paired by name")
        if row[column] != "":
            cells[name] = row[column]
    if not cells:
        raise UserError(f"{path}: column {column} is empty")
    if set(cells.values()) <= _YES_NO.keys():
        return {name: _YES_NO[cell] for name, cell in cells.items()}
    return {name: _number(cell, path, column) for name, cell in cells.items()}


def _number(cell: str, path, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}, column {column}: {cell[:40]!r} is not a number")
    return value


def column_summary(path: str | os.PathLike, column: str) -> dict:
    """Mean of a column with its interval: Wilson's for yes and no, a bootstrap for numbers. Ready for JSON."""
    values = list(read_column(path, column).values())
    yes_no = isinstance(values[0], bool)
    interval = wilson(sum(values), len(values)) if yes_no else bootstrap_mean(values)
    return {
        "metric": f"{'share of images with' if yes_no else 'mean over images of'} {column} in {path}",
        "value": interval.as_dict(),
        "interval": "Wilson, 95 %" if yes_no else "bootstrap of the images, 95 %",
        "n_images": len(values),
    }


def compare(before: str | os.PathLike, after: str | os.PathLike, column: str) -> dict:
    """The images that two per-image CSVs have in common, tested as pairs. UserError if there are none. Ready for JSON."""
    old, new = read_column(before, column), read_column(after, column)
    names = [name for name in old if name in new]
    if not names:
        raise UserError(f"{before} and {after} have no image name in common")
    a, b = [old[name] for name in names], [new[name] for name in names]
    yes_no = isinstance(a[0], bool) and isinstance(b[0], bool)
    found = (paired.mcnemar if yes_no else paired.difference)(a, b)
    return {
        "metric": meaning("paired"),
        "column": column,
        "test": "exact McNemar" if yes_no else found.test,
        "value": found.change.as_dict(),
        "p": found.p,
        "interval": METRICS["paired"].interval,
        "n_images": len(names),
        "only_in_before": len(old) - len(names),
        "only_in_after": len(new) - len(names),
        "result": found.as_dict(),
    }
