"""The data of an attack: prompts that the original model draws the concept for, and its pictures of them.

A folder with prompts.csv and imgs/, pictures matched by position in their numerical order, as UnlearnDiffAtk's. Prompts of
more than 60 tokens are left out; ignore.json lists their rows.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from erasure import runs
from erasure.attacks.target import Case, Judge, read_picture
from erasure.errors import UserError
from erasure.prompts import Row, ids_cell, read_csv

PROMPTS, PICTURES, IGNORED = "prompts.csv", "imgs", "ignore.json"
MAX_TOKENS = 60  # start and end included


def read_cases(
    folder: str | os.PathLike, tokenizer, eval_seed: int = 0, pictures: bool = True, filtered: bool = True
) -> list[Case]:
    """The prompts that can be attacked, counted from 0, with their pictures if those are wanted.

    A CSV file in place of a folder has prompts only. filtered: without long prompts. UserError for rows and pictures that do
    not match.
    """
    folder = runs.find(folder)
    csv = folder if folder.is_file() else folder / PROMPTS
    if not csv.is_file():
        raise UserError(f"{folder}: no {PROMPTS} in it; eval-scripts/generate_dataset.py makes such a folder")
    rows = read_csv(csv, default_seed=eval_seed, repeated_cases=True)
    files = pictures_of(csv.parent / PICTURES, len(rows)) if pictures else [None] * len(rows)
    ignored = _ignored(csv, rows, tokenizer) if filtered else set()
    kept = [(row, file) for i, (row, file) in enumerate(zip(rows, files, strict=True)) if i not in ignored]
    if not kept:
        raise UserError(f"{csv}: every prompt has more than {MAX_TOKENS} tokens")
    return [
        Case(i, row.prompt, row.evaluation_seed, row.evaluation_guidance, file, row.token_ids)
        for i, (row, file) in enumerate(kept)
    ]


def _ignored(csv: Path, rows: Sequence[Row], tokenizer) -> set[int]:
    """Rows of long prompts, as ignore.json says; it is written at first use, and again if prompts.csv is newer."""
    path = csv.parent / IGNORED
    if csv.name == PROMPTS and path.is_file() and path.stat().st_mtime >= csv.stat().st_mtime:
        found = runs.read_json(path)
        if isinstance(found, list) and all(isinstance(i, int) for i in found):
            return set(found)
        raise UserError(f"{path}: not a list of rows; remove it and it is made anew")
    given = (tokenizer.encode(row.prompt, False) if row.token_ids is None else row.token_ids for row in rows)
    long = [i for i, ids in enumerate(given) if len(ids) + 2 > MAX_TOKENS]
    if csv.name == PROMPTS:
        runs.write_json(path, long)
    return set(long)


def pictures_of(folder: Path, count: int) -> list[Path]:
    """Its PNGs in their numerical order. UserError if they are not `count`."""
    files = sorted(folder.glob("*.png"), key=_order) if folder.is_dir() else []
    if len(files) != count:
        raise UserError(
            f"{folder}: {len(files)} pictures for {count} prompts; eval-scripts/generate_dataset.py draws one for each"
        )
    return files


def _order(path: Path) -> tuple[list[int], str]:
    return [int(number) for number in re.findall(r"\d+", path.stem)], path.name


# ---- making one ----------------------------------------------------------------------------------------------------


def keep_shown(folder: Path, rows: Sequence[Row], judge: Judge) -> list[Row]:
    """The rows whose picture {case}_0.png shows the concept; the pictures of others are removed. UserError if none does."""
    pictures = [folder / PICTURES / f"{row.case_number}_0.png" for row in rows]
    answers = judge([read_picture(path) for path in pictures])
    shown = [row for row, answer in zip(rows, answers, strict=True) if answer["success"]]
    if not shown:
        raise UserError(f"{folder}: none of {len(rows)} pictures of the original model shows the concept")
    for path, answer in zip(pictures, answers, strict=True):
        if not answer["success"]:
            path.unlink()
    return shown


def write_prompts(folder: Path, rows: Sequence[Row]) -> None:
    """prompts.csv, its rows in the numerical order of the pictures; with a column token_ids if any row has some."""
    columns = ["case_number", "prompt", "evaluation_seed", "evaluation_guidance", "token_ids"]
    lines = [
        [
            row.case_number,
            row.prompt,
            row.evaluation_seed,
            "" if (g := row.evaluation_guidance) is None else g,
            ids_cell(row.token_ids),
        ]
        for row in sorted(rows, key=lambda row: row.case_number)
    ]
    last = None if any(row.token_ids for row in rows) else -1
    runs.write_csv(folder / PROMPTS, [line[:last] for line in (columns, *lines)])
