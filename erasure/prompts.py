"""The one reader of prompt CSVs, whichever family wrote them.

Columns that mean the same under several names are listed in `ALIASES`; of several that a file has, the first in the list
counts and the others are kept as extra columns. All cells are text: a prompt that reads ``None`` or ``nan`` is that word.
"""

import csv
import io
import logging
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from erasure.errors import UserError
from erasure.runs import find

logger = logging.getLogger(__name__)

ALIASES = {
    "prompt": ("adv_prompt", "prompt"),  # a file of attack prompts holds the original ones too
    "case_number": ("case_number", "case_num", "image_id"),
    "evaluation_seed": ("evaluation_seed", "sd_seed", "seed"),
    "evaluation_guidance": ("evaluation_guidance", "sd_guidance_scale", "guidance"),
    "width": ("sd_image_width", "width"),
    "height": ("sd_image_height", "height"),
    "token_ids": ("token_ids",),
}
MAX_SEED = 2**63 - 1
_MAX_SIZE = 1 << 14
_WHOLE = re.compile(r"[+-]?\d+(\.0*)?")  # pandas writes whole numbers as 7.0 in a column that has an empty cell


@dataclass(frozen=True)
class Row:
    """One row of a prompt CSV; None where the file has no such column or an empty cell."""

    case_number: int
    prompt: str
    evaluation_seed: int
    evaluation_guidance: float | None = None
    width: int | None = None  # pixels
    height: int | None = None
    extra: dict[str, str] = field(default_factory=dict)  # all other columns
    token_ids: tuple[int, ...] | None = None  # drawn as they are, in place of the prompt; without start and end tokens
    mark: str = ""  # for the names of its images, where another row's would be the same (`erasure.generation.rows`)


def read_csv(path: str | os.PathLike, default_seed: int | None = None, repeated_cases: bool = False) -> list[Row]:
    """Rows of a prompt CSV, in the order of the file.

    Needs a prompt and a seed column; default_seed stands in for a missing seed column, not for an empty cell. Without
    a column of case numbers the rows are counted from 0. An empty prompt is an empty prompt. repeated_cases: several rows
    may have the same case number, for a caller that does not tell rows apart by it.
    UserError, naming the file, row (the first below the header is 1), line and column, for anything that cannot be
    used: a missing column, a number that is none or out of range, a repeated case number, a row of another length.
    """
    path = _located(path)
    header, records = _records(path)
    columns = {name: next((c for c in names if c in header), None) for name, names in ALIASES.items()}
    for name in ("prompt", "evaluation_seed") if default_seed is None else ("prompt",):
        if columns[name] is None:
            wanted = " (or ".join(reversed(ALIASES[name]) if name == "prompt" else ALIASES[name][:2]) + ")"
            raise UserError(f"{path}: no column {wanted}; it has {', '.join(map(repr, header))}")
    if columns["case_number"] is None and not repeated_cases:
        logger.warning("%s has no column case_number: its rows are counted from 0", path)
    rows: list[Row] = []
    lines: dict[int, str] = {}
    for position, (place, cells) in enumerate(records):
        row = _row(_Cells(path, place, cells, columns), position, default_seed)
        if row.case_number in lines and not repeated_cases:
            where = f"{path}, {place}, column {columns['case_number']}"
            raise UserError(f"{where}: case number {row.case_number} is that of {lines[row.case_number]} too")
        lines[row.case_number] = place
        rows.append(row)
    if not rows:
        raise UserError(f"{path}: no rows below the header")
    return rows


def ids_cell(ids: Sequence[int] | None) -> str:
    """Ids of tokens as the column token_ids has them."""
    return " ".join(map(str, ids or ()))


def read_table(path: str | os.PathLike) -> tuple[Sequence[str], list[dict[str, str]]]:
    """(header, {column: text} of every row) of any CSV, read by the same rules. UserError as `read_csv`."""
    header, records = _records(_located(path))
    return header, [cells for _, cells in records]


def _located(path: str | os.PathLike) -> Path:
    """The file, from the working directory or the repository, or the known prompt set that it means."""
    found = find(path)
    if found.exists():
        return found
    from erasure.prompt_sets import prompt_file  # which reads lists of names with this module

    return prompt_file(path)


@dataclass
class _Cells:
    """The cells of one row by the names of `ALIASES`, with words for what is wrong in them."""

    path: Path
    place: str
    cells: Mapping[str, str]
    columns: Mapping[str, str | None]

    def text(self, name: str) -> str | None:
        column = self.columns[name]
        return None if column is None else self.cells[column]

    def error(self, name: str, what: str) -> UserError:
        return UserError(f"{self.path}, {self.place}, column {self.columns[name]}: {what}")

    def integer(self, name: str, low: int, high: int, required: bool = False) -> int | None:
        text = self._filled(name, required)
        if text is None:
            return None
        if not _WHOLE.fullmatch(text):
            raise self.error(name, f"{text[:40]!r} is not a whole number")
        value = int(text.split(".")[0])
        if not low <= value <= high:
            raise self.error(name, f"{value} is not within {low}..{high}")
        return value

    def integers(self, name: str) -> tuple[int, ...] | None:
        """Of a cell of whole numbers with spaces between them."""
        text = self._filled(name, False)
        if text is None:
            return None
        if wrong := [part for part in text.split() if not _WHOLE.fullmatch(part)]:
            raise self.error(name, f"{wrong[0][:40]!r} is not a whole number; ids of tokens have spaces between them")
        return tuple(int(part.split(".")[0]) for part in text.split())

    def number(self, name: str) -> float | None:
        text = self._filled(name, False)
        try:
            value = None if text is None else float(text)
        except ValueError:
            value = math.nan
        if value is not None and not math.isfinite(value):
            raise self.error(name, f"{text[:40]!r} is not a number")
        return value

    def _filled(self, name: str, required: bool) -> str | None:
        text = (self.text(name) or "").strip()
        if not text and required:
            raise self.error(name, "the cell is empty")
        return text or None


def _row(cells: _Cells, position: int, default_seed: int | None) -> Row:
    counted, seeded = (cells.columns[name] is not None for name in ("case_number", "evaluation_seed"))
    used = set(cells.columns.values())
    return Row(
        case_number=cells.integer("case_number", 0, MAX_SEED, required=True) if counted else position,
        prompt=cells.text("prompt") or "",
        evaluation_seed=cells.integer("evaluation_seed", 0, MAX_SEED, required=True) if seeded else default_seed,
        evaluation_guidance=cells.number("evaluation_guidance"),
        width=cells.integer("width", 1, _MAX_SIZE),
        height=cells.integer("height", 1, _MAX_SIZE),
        token_ids=cells.integers("token_ids"),
        extra={column: text for column, text in cells.cells.items() if column not in used},
    )


def _records(path: Path) -> tuple[Sequence[str], Iterator[tuple[str, dict[str, str]]]]:
    """(header, (place, {column: text}) of every row that is not blank)."""
    try:
        text = path.read_bytes().decode("utf-8-sig") if path.is_file() else None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8 (byte {error.start})") from None
    if text is None:
        raise UserError(f"{path}: {'is a folder, not a CSV file' if path.is_dir() else 'no such file'}")
    records = _numbered(path, csv.reader(io.StringIO(text, newline=""), strict=True))
    header = [name.strip() for name in next(records, (0, []))[1]]
    if not header:
        raise UserError(f"{path} is empty")
    if repeated := {name for name in header if name and header.count(name) > 1}:
        raise UserError(f"{path}: the header names {', '.join(sorted(repeated))} more than once")
    return header, _by_column(path, header, records)


def _by_column(path: Path, header: Sequence[str], records) -> Iterator[tuple[str, dict[str, str]]]:
    for row, (line, fields) in enumerate(records, start=1):
        place = f"row {row} (line {line})"
        if len(fields) != len(header):
            column = header[len(fields)] if len(fields) < len(header) else header[-1]
            raise UserError(
                f"{path}, {place}, column {column}: {len(fields)} cells, and the header has {len(header)}; "
                "a text with a comma in it must be quoted"
            )
        yield place, dict(zip(header, fields, strict=True))


def _numbered(path: Path, reader) -> Iterator[tuple[int, list[str]]]:
    """(line it starts at, cells) of every record; blank lines, which some published files end with, are none."""
    line = 1
    try:
        for fields in reader:
            if len(fields) > 1 or "".join(fields).strip():
                yield line, fields
            line = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, from line {line}: not a CSV file ({error})") from None
