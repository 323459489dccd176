"""Rows of a prompt file as they are drawn: what counts of them, and file names that tell any two of them apart.

Names made of prompts can be the same for different rows: line breaks and slashes are left out of them, long prompts are cut,
and a file may repeat itself. So names are settled for a whole file, before rows are chosen from it: several machines can draw
parts of it into one folder.
"""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from erasure.generation.presets import NAMINGS, GenerationSettings
from erasure.prompts import Row
from erasure.runs import write_csv

INDEX = "index.csv"
INDEX_COLUMNS = ("row", "case_number", "k", "file", "prompt", "evaluation_seed")


def of_row(row: Row, s: GenerationSettings) -> tuple[float, int | None, int | None]:
    """(guidance, width, height) of a row's images: its own where these settings let them count, else the settings'."""
    guidance = row.evaluation_guidance if s.row_guidance and row.evaluation_guidance is not None else s.guidance
    if s.row_size:
        return guidance, row.width or s.image_size, row.height or s.image_size
    return guidance, s.image_size, s.image_size


def told_apart(rows: Sequence[Row], s: GenerationSettings) -> list[Row]:
    """For every row of a file, the row that is drawn for it.

    That is an earlier one if its images have the same names and are the same (prompt or token ids, seed, guidance, size). A row whose
    images have the names of others gets ``_row{position}`` into them; the first keeps its names. Names that differ in nothing
    but upper and lower case are the same, as they are on many disks.
    """
    drawn: list[Row] = []
    owners: dict[str, list[Row]] = {}
    for position, row in enumerate(rows):
        names = _names(row, s)
        earlier = (other for name in names for other in owners.get(name, []) if _same(row, other, s))
        if (same := next(earlier, None)) is not None:
            drawn.append(same)
            continue
        marked = row
        while any(name in owners for name in _names(marked, s)):
            marked = replace(marked, mark=f"{marked.mark}_row{position}")
        for name in {*names, *_names(marked, s)}:
            owners.setdefault(name, []).append(marked)
        drawn.append(marked)
    return drawn


def _names(row: Row, s: GenerationSettings) -> list[str]:
    files = (NAMINGS[s.naming](row, k) for k in range(s.num_samples))
    return [unicodedata.normalize("NFC", file).casefold() for file in files]


def _same(row: Row, other: Row, s: GenerationSettings) -> bool:
    one, two = ((r.prompt, r.token_ids, r.evaluation_seed, *of_row(r, s)) for r in (row, other))
    return one == two


def write_index(folder: str | os.PathLike, rows: Sequence[Row], drawn: Sequence[Row], s: GenerationSettings) -> int:
    """Write index.csv: of every row of the prompt file, by position, the images in `folder`; returns of how many rows.

    drawn: what `told_apart` says of `rows`. It is made from the files that are there, so that runs which draw parts of the
    prompt file into one folder need not agree on it: the last one to end lists all.
    """
    folder = Path(folder)
    there = {entry.name for entry in os.scandir(folder)}
    lines = []
    for position, (row, own) in enumerate(zip(rows, drawn, strict=True)):
        for k in range(s.num_samples):
            if (file := NAMINGS[s.naming](own, k)) in there:
                lines.append([position, row.case_number, k, file, row.prompt, row.evaluation_seed])
    write_csv(folder / INDEX, [INDEX_COLUMNS, *lines])
    return len({line[0] for line in lines})
