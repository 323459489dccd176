"""Rows and tables that are averages of others: over concepts of a role, over rows of a method, over times of a scene."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from reproduce.results import Entry, Measured
from reproduce.tables import ROLES, Table, table


def with_computed(one: Table, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with those of computed rows as the mean of the same cells in the rows that they average."""
    computed = {position: row for position, row in enumerate(one.lines) if row.get("computed")}
    if not computed:
        return list(entries)
    cells = [*one.cells()]
    found = []
    for cell, entry in zip(cells, entries, strict=True):
        if cell.row in computed:
            # with a row for each class (row_key) the average is over all of them, else over those of the method
            same = [
                other.ours
                for of, other in zip(cells, entries, strict=True)
                if of.row not in computed
                and (of.metric, of.part) == (cell.metric, cell.part)
                and (one.row_key or of.method == cell.method)
            ]
            wanted = computed[cell.row]["computed"]  # how many it averages, where the table does not have them all
            missing = f"it averages {wanted} rows, of which {len(same)} are in this table"
            entry = replace(entry, **(_mean(same) if wanted in (True, len(same)) else {"why": missing}))
        found.append(entry)
    return found


def of_sources(one: Table, entries: Sequence[Entry]) -> list[Entry]:
    """The cells of a table that is computed from others, whose entries are given in the order of their cells.

    A row takes the cells of its own method, scene and time, or of those that its `from` says; a metric that is called after a role
    takes the concepts of that role, and one of the sources' metrics all concepts that are erased.
    """
    sources = [(source, cell) for name in one.computed_from for source in [table(name)] for cell in source.cells()]
    numbers = [(source, cell, entry.ours) for (source, cell), entry in zip(sources, entries, strict=True)]
    found = []
    for cell in one.cells():
        row = one.lines[cell.row]
        wanted = {key: row[key] for key in ("method", "scene", "t") if key in row} | row.get("from", {})
        same: dict[tuple[str, int], list[Measured | None]] = {}
        for source, of, ours in numbers:
            if _fits(cell, of, source.lines[of.row], wanted, source):
                same.setdefault((source.name, of.row), []).append(ours)
        name = ", ".join(str(row[key]) for key in ("method", "scene", "t") if key in row)
        entry = Entry.of(cell, name)
        rows = [_mean(of_row) for of_row in same.values()]  # the mean of a row counts as much as that of any other
        found.append(replace(entry, **_mean([of_row.get("ours") for of_row in rows])))
    return found


def _fits(cell: Any, of: Any, row: dict[str, Any], wanted: dict[str, Any], source: Table) -> bool:
    roles = {name: letter for letter, name in ROLES.items()}
    metric = cell.part if cell.metric in roles else cell.metric
    if of.metric != metric or any(row.get(key) != value for key, value in wanted.items()):
        return False
    if "roles" not in row or of.part not in (source.concepts or ()):
        return True
    return row["roles"][source.concepts.index(of.part)] == roles.get(cell.metric, "E")


def _mean(numbers: Sequence[Measured | None]) -> dict[str, Any]:
    """`ours` or `why` of an entry that is the mean of others; without an interval, as they share models."""
    if not numbers:
        return {"why": "no row of the tables that it is computed from is of this method"}
    if None in numbers:
        return {
            "why": f"{sum(n is None for n in numbers)} of the {len(numbers)} numbers that it averages are not there"
        }
    value = sum(number.value for number in numbers) / len(numbers)
    n = None if any(number.n is None for number in numbers) else sum(number.n for number in numbers)
    return {"ours": Measured(value, n=n, definition=f"mean of {len(numbers)} numbers"), "why": ""}
