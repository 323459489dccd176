"""Reports of tables: ours, published, 95 % interval, verdict, as HTML, CSV and PNG.

write(result, folder)       # report.html, table.csv; tradeoff.png, thresholds.png, grid.png where there is something to draw
overview(results, folder)   # index.html and overview.png of several tables

The facts of a result are its foot: `settings` stand beside the paper's, with a flag where they differ; `source` and `versions` are
named; anything else is printed as it is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from typing import Any

from erasure.runs import atomic_path, write_csv, write_text
from reproduce.reports import page, pictures, points, verdicts
from reproduce.reports.cells import FEW, Judged, counts, plain
from reproduce.reports.points import Points
from reproduce.results import Measured, TableResult

_OURS = ("value", "low", "high", "n", "definition", "source")
_ENTRY = ("row", "method", "metric", "part", "better", "measure", "published", "certainty")
COLUMNS = (
    "table", "base", *_ENTRY, *(f"ours_{key}" for key in _OURS), *(f"before_{key}" for key in _OURS), "why", "verdict", "reason",
)  # fmt: skip


def write(result: TableResult, folder: Path) -> list[Path]:
    """Everything of one table in `folder`; the files' paths."""
    folder = Path(folder)
    judged = verdicts.judged(result)
    plots = dict(_plots(result, judged, folder))
    paths = [folder / "report.html", folder / "table.csv", *(folder / name for name in plots)]
    if shown := pictures.grids(result):
        paths.append(folder / "grid.png")
        with atomic_path(paths[-1]) as temporary:
            pictures.image(shown).save(temporary)
    write_text(paths[0], page.table_page(result, judged, plots, shown))
    write_csv(paths[1], csv_rows(result, judged))
    return paths


def _plots(result: TableResult, judged: Sequence[Judged], folder: Path) -> Iterator[tuple[str, str]]:
    """Draw them; (file, heading) of each."""
    from reproduce.reports import plots  # matplotlib takes a second

    title = f"{result.name}: {result.title}"
    if found := points.of(judged):
        plots.tradeoff(title, found, folder / "tradeoff.png")
        yield "tradeoff.png", "Erasure against preservation" if found.plane else "Method by method"
    if result.curves:
        plots.thresholds(title, result.curves, folder / "thresholds.png")
        yield "thresholds.png", "What depends on the threshold"


def csv_rows(result: TableResult, judged: Sequence[Judged]) -> list[list[Any]]:
    """A row a number, under COLUMNS; an empty cell is none."""
    rows: list[list[Any]] = [list(COLUMNS)]
    for entry, word, reason in judged:
        own = [getattr(entry, key) for key in _ENTRY]
        numbers = [*_measured(entry.ours), *_measured(entry.before)]
        cells = [result.name, result.base, *own, *numbers, entry.why, word, reason]
        rows.append(["" if cell is None else cell for cell in cells])
    return rows


def _measured(one: Measured | None) -> list[Any]:
    return [asdict(one)[key] for key in _OURS] if one else [None] * len(_OURS)


def text(result: TableResult) -> str:
    """For a terminal: a line a number while they are few, else how often each verdict was given."""
    judged = verdicts.judged(result)
    said = ", ".join(f"{n} {word}" for word, n in counts(judged).items()) or "no numbers"
    lines = [f"{result.name} on {result.base}: {said}"]
    if len(judged) <= FEW:
        table = [
            ["", "metric", "ours", "95 % interval", "published" if result.base != "toy" else "base model", "verdict"]
        ]
        table += [
            [e.row, e.metric, *plain(e, result.base == "toy"), f"{word} ({reason})"] for e, word, reason in judged
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += ["  ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip() for line in table]
    return "\n".join(lines)


# ---- several tables ------------------------------------------------------------------------------------------------


def overview(results: Sequence[TableResult], folder: Path) -> Path:
    """index.html: a row a table, with overview.png above where anything can be drawn. Reports are looked for below `folder`."""
    folder = Path(folder)
    judged = {result.name: verdicts.judged(result) for result in results}
    panels = _panels(results, judged)
    if panels:
        from reproduce.reports import plots

        plots.sheet("Erasure against preservation", panels, folder / "overview.png")
    write_text(folder / "index.html", page.index_page(results, judged, folder, "overview.png" if panels else None))
    return folder / "index.html"


def _panels(results: Sequence[TableResult], judged: dict[str, list[Judged]]) -> list[tuple[str, Points]]:
    """Planes by paper; tables of a paper that are measured in the same way share one."""
    planes = [(result, found) for result in results if (found := points.of(judged[result.name])) and found.plane]
    panels = []
    for (paper, *_), group in groupby(sorted(planes, key=_kind), key=_kind):
        members = list(group)
        names = ", ".join(result.name.partition(":")[2] for result, _ in members)
        title = f"{paper}: {names}" if len(members) == 1 else f"{paper}: {len(members)} tables"
        panels.append((title, points.together([(r.name.partition(":")[2], found) for r, found in members])))
    return panels


def _kind(plane: tuple[TableResult, Points]) -> tuple[str, ...]:
    result, found = plane
    toy = result.base == "toy"  # all are judged there by one judge; metrics of papers are their own
    measures = [axis.key[1] for axis in found.axes]
    return (result.name.partition(":")[0], result.base, *measures, "" if toy else result.name)
