"""What a table came to: the numbers measured here beside the published ones, and pictures and curves to look at.

The workflow writes a `TableResult` for each table (result.json); `reproduce/reports/report.py` draws it as HTML, CSV and PNG.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from erasure import runs
from reproduce.tables import Cell

FILE = "result.json"


@dataclass(frozen=True)
class Measured:
    """A number measured here, in the table's unit, with its 95 % interval where the metric has one."""

    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None  # pictures (or attacks, or names) that it is over
    definition: str = ""  # the metric's own words, or what differs from the published way
    source: str = ""  # the summary file it was read from


@dataclass(frozen=True)
class Entry:
    """One cell of the report."""

    row: str  # the row's label, as the table prints it
    method: str  # what made it: a run's label
    metric: str
    part: str | None
    better: str  # higher, lower, reference
    measure: str
    published: float | None
    certainty: str  # of reproduce.tables.CERTAINTIES
    ours: Measured | None = None
    before: Measured | None = None  # the base model's, where the table has none of its own
    why: str = ""  # why there is no number of ours

    @classmethod
    def of(cls, cell: Cell, row: str) -> "Entry":
        """What is published, with nothing of ours yet. row: its label."""
        return cls(row, cell.method, cell.metric, cell.part, cell.better, cell.measure, cell.value, cell.certainty)


@dataclass(frozen=True)
class Grid:
    """Pictures of the same prompts and seeds by several models: `files[label][i]` shows `prompts[i]`."""

    title: str
    prompts: tuple[str, ...]
    files: Mapping[str, tuple[str, ...]]  # model -> files, relative to the repository or absolute


@dataclass(frozen=True)
class Curve:
    """How a count or share depends on a detector's threshold."""

    label: str  # the model
    title: str  # what is counted
    points: tuple[tuple[float, float], ...]  # (threshold, share or count)


@dataclass(frozen=True)
class TableResult:
    name: str  # paper:table
    base: str  # toy or sd-v1-4
    title: str
    entries: tuple[Entry, ...]
    grids: tuple[Grid, ...] = ()
    curves: tuple[Curve, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)  # for the foot: source, settings, versions, seconds

    def write(self, path: Path) -> None:
        runs.write_json(path, asdict(self))


def read(path: Path) -> TableResult:
    """What `TableResult.write` wrote."""
    data = runs.read_json(path)
    entries = tuple(
        Entry(**entry | {key: entry[key] and Measured(**entry[key]) for key in ("ours", "before")})
        for entry in data["entries"]
    )
    grids = tuple(
        Grid(g["title"], tuple(g["prompts"]), {label: tuple(files) for label, files in g["files"].items()})
        for g in data["grids"]
    )
    curves = tuple(Curve(c["label"], c["title"], tuple(tuple(p) for p in c["points"])) for c in data["curves"])
    return TableResult(data["name"], data["base"], data["title"], entries, grids, curves, data["facts"])
