"""Bring in the prompt sets that others wrote, from a copy that the user has: checked, put in place, and what is made of them.

data/sources.yaml describes the sets. A copy has to be the published file, or (on request) one of the same rows and columns.
"""

import csv
import io
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from erasure.errors import UserError, about
from erasure.prompt_sets import Source, sources
from erasure.prompts import ALIASES, read_table
from erasure.runs import ROOT, atomic_path, sha256_file

Rows = Sequence[Mapping[str, str]]


class Placed(NamedTuple):
    """A set that is in place now."""

    key: str
    path: Path
    rows: int
    exact: bool | None  # it is the published file, byte for byte; None: there is none


def place(key: str, root: str | os.PathLike | None = None) -> Path:
    """Where the file of a set belongs, below the repository (or `root`)."""
    return Path(ROOT if root is None else root) / sources()[key]["file"]


def bring_in(
    key: str, file: str | os.PathLike, link: bool = False, changed: bool = False, root: str | os.PathLike | None = None
) -> Iterator[Placed]:
    """Check `file` as a copy of the set `key`, put it where commands look for it, and make the sets that come of it.

    link: a symbolic link in place of a copy. changed: a file of the same rows and columns will do, whatever its bytes.
    UserError, before anything is written, for a file that is not the set.
    """
    file = Path(file).expanduser()
    source = sources()[key]
    if source.get("shipped"):
        raise UserError(f"{key} is part of this repository: {source['file']}")
    with about(file):
        rows = checked(key, file, changed)
    content = None
    if "becomes" in source:
        key, rows = source["becomes"], _with_case_numbers(rows)
        content = csv_text(sources()[key]["columns"], rows).encode()
    elif "layout" in source:
        content = csv_text(source["columns"], rows).encode()
    path = place(key, root)
    if content is not None:
        _write(path, content)
    elif path.exists() and path.samefile(file):
        pass  # it is in place already
    elif link:
        _link(path, file.resolve())
    else:
        _write(path, file.read_bytes())
    yield Placed(key, path, len(rows), _is_exact(key, path))
    for child, description in sources().items():
        if description.get("from", {}).get("of") == key:
            yield _derive(child, rows, root)


def checked(key: str, file: str | os.PathLike, changed: bool = False) -> Rows:
    """The rows of `file`, which is a copy of the set `key`. UserError that says what is wrong with it."""
    source, file = sources()[key], Path(file)
    if not file.is_file():
        raise UserError(f"{file}: {'is a folder' if file.is_dir() else 'no such file'}")
    sha256 = sha256_file(file)
    if reason := source.get("damaged", {}).get(sha256):
        raise UserError(f"{file}: {reason}; the whole file has sha256 {source['sha256']}")
    exact = sha256 == source.get("sha256")
    if not exact and (other := _known_by(sha256)):
        raise UserError(f"{file} is {other}: python data/import_prompts.py {other} {file}")
    header, rows = _unquoted(file) if source.get("layout") == "unquoted_prompts" else read_table(file)
    if list(header) != source["columns"]:
        raise UserError(f"{file}: its columns are {_list(header)}; {key} has {_list(source['columns'])}")
    if len(rows) != source["rows"]:
        what = "a part of it is missing" if len(rows) < source["rows"] else "it is another file"
        raise UserError(f"{file} has {len(rows)} rows, and {key} has {source['rows']}: {what}")
    for check in source.get("checks", ()):
        if wrong := _wrong(rows, check):
            raise UserError(f"{file}, column {check['column']}: {wrong}; it is not {key} as published")
    if not exact and not changed and "sha256" in source:
        raise UserError(
            f"{file} has the rows and columns of {key}, but sha256 {sha256}, and the published file "
            f"{source['sha256']}: --accept_changed takes it all the same"
        )
    return rows


def csv_text(columns: Sequence[str], rows: Rows) -> str:
    """A CSV file with minimal quotes and line feeds, as pandas writes it."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([row[column] for column in columns] for row in rows)
    return text.getvalue()


# ---- what a copy is asked ------------------------------------------------------------------------------------------


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan  # compares as False with anything


HOLDS: dict[str, Callable[[str, Any], bool]] = {
    "above": lambda text, value: _number(text) > value,
    "at_least": lambda text, value: _number(text) >= value,
    "below": lambda text, value: _number(text) < value,
    "equals": lambda text, value: _number(text) == value,
    "contains": lambda text, value: value in [part.strip() for part in text.split(",")],
    # Ring-A-Bell split the list without stripping the blanks after its commas
    "first_or_unspaced": lambda text, value: value in text.split(","),
}
"""What a cell can be asked: selections of rows, and (with a number of rows) checks of a file."""


def _selected(rows: Rows, conditions: Sequence[Mapping[str, Any]]) -> Rows:
    return [row for row in rows if all(_holds(row, condition) for condition in conditions)]


def _holds(row: Mapping[str, str], condition: Mapping[str, Any]) -> bool:
    return all(test(row[condition["column"]], condition[name]) for name, test in HOLDS.items() if name in condition)


def _wrong(rows: Rows, check: Mapping[str, Any]) -> str | None:
    """What contradicts one of a set's checks, or None."""
    cells = [row[check["column"]] for row in rows]
    match {name: value for name, value in check.items() if name != "column"}:
        case {"rows": wanted}:
            found = len(_selected(rows, [check]))
            condition = next(f"{name} {value}" for name, value in check.items() if name in HOLDS)
            return None if found == wanted else f"{found} rows are {condition}, not {wanted}"
        case {"counts_from": first}:
            wanted = map(str, range(first, first + len(cells)))
            return next((f"{a!r} is in place of {b}" for a, b in zip(cells, wanted, strict=True) if a != b), None)
        case {"empty_in_cases": cases}:
            found = [row["case_number"] for row in rows if not row[check["column"]]]
            return None if found == list(map(str, cases)) else f"empty in cases {_list(found)}, not {_list(cases)}"
        case {"only": values}:
            return None if {*cells} <= {*values} else f"{({*cells} - {*values}).pop()!r} is not {_list(values)}"
        case {"distinct": True}:
            return None if len({*cells}) == len(cells) else "values are repeated"
        case bounds:
            numbers = [_number(cell) for cell in cells]
            found = {"smallest": min(numbers), "largest": max(numbers)}
            return next((f"the {n} is {found[n]:g}, not {v}" for n, v in bounds.items() if found[n] != v), None)


def _unquoted(file: Path) -> tuple[Sequence[str], Rows]:
    """A table whose second of four columns holds unquoted commas: cut at the first comma and the last two."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not a text in UTF-8 (byte {error.start})") from None
    header, *rest = [_cut(line) for line in lines] or [[]]
    for number, cells in enumerate(rest, start=1):
        if len(cells) != 4:
            raise UserError(f"{file}, row {number}: not of the form case_number,prompt,class,evaluation_seed")
    return header, [dict(zip(header, cells, strict=False)) for cells in rest]


def _cut(line: str) -> list[str]:
    first, _, rest = line.partition(",")
    return [first, *(cell.removeprefix('"').removesuffix('"') for cell in rest.rsplit(",", 2))]


def _known_by(sha256: str) -> str | None:
    return next((key for key, source in sources().items() if source.get("sha256") == sha256), None)


def _list(values: Sequence[Any]) -> str:
    return ", ".join(repr(value) if value == "" else str(value) for value in values) or "none"


# ---- what is put in place ------------------------------------------------------------------------------------------


def _with_case_numbers(rows: Rows) -> Rows:
    """ESD's form of the COCO captions in the others': rows are counted, and image_id is coco_id."""
    return [{**row, "case_number": str(n), "coco_id": row["image_id"]} for n, row in enumerate(rows)]


def _derive(key: str, parent: Rows, root: str | os.PathLike | None) -> Placed:
    """Make a set of the rows of the one it comes of."""
    source = sources()[key]
    how: Source = source["from"]
    rows = _sampled(parent, how["sample"], how["seed"]) if "sample" in how else _selected(parent, how["where"])
    if len(rows) != source["rows"]:
        raise UserError(f"{key}: {len(rows)} rows of {how['of']} belong to it, not {source['rows']}")
    path = place(key, root)
    _write(path, csv_text(source["columns"], _renamed(rows, source["columns"])).encode())
    return Placed(key, path, len(rows), _is_exact(key, path))


def _sampled(rows: Rows, n: int, seed: int) -> Rows:
    """`n` of the rows, as pandas' sample(n, random_state=seed) draws them."""
    import numpy as np

    return [rows[i] for i in np.random.RandomState(seed).choice(len(rows), size=n, replace=False)]


def _renamed(rows: Rows, columns: Sequence[str]) -> Rows:
    """Rows under other names of the same columns (`erasure.prompts.ALIASES`)."""
    same = {name: names for names in ALIASES.values() for name in names}
    given = rows[0] if rows else {}
    old = {name: next(n for n in (name, *same.get(name, ())) if n in given) for name in columns} if rows else {}
    return [{name: row[old[name]] for name in columns} for row in rows]


def _is_exact(key: str, path: Path) -> bool | None:
    sha256 = sources()[key].get("sha256")
    return None if sha256 is None else sha256_file(path) == sha256


def _write(path: Path, content: bytes) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def _link(path: Path, target: Path) -> None:
    """A symbolic link that takes its name when it is whole, as `atomic_path` does for files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.tmp")
    temporary.symlink_to(target)
    os.replace(temporary, path)


def state(key: str, root: str | os.PathLike | None = None) -> str:
    """Whether the file of a set is in place: 'absent', 'as published', 'changed', 'here' (nothing to compare it with)."""
    path = place(key, root)
    if not path.is_file():
        return "absent"
    exact = _is_exact(key, path)
    if exact is None or "layout" in sources()[key]:
        return "here"
    return "as published" if exact else "changed"
