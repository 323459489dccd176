"""From what was measured to a table: every cell's number beside the published one, pictures to look at, curves.

`make` is the last step of a table; it runs no model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from erasure import runs
from erasure.errors import UserError
from erasure.generation.presets import PRESETS
from erasure.prompts import Row, read_csv
from reproduce import averages, commands, results
from reproduce.measures import measuring, takes
from reproduce.measures.measuring import Shown
from reproduce.models import models, shown, trainings
from reproduce.reports import report
from reproduce.reports.cells import row_name
from reproduce.results import Curve, Entry, Grid, Measured, TableResult
from reproduce.steps import sources_of, table_key, taken
from reproduce.tables import Cell, Run, Table, measures, tables

if TYPE_CHECKING:
    from reproduce.step import Planned

_PROMPTS = 5  # of a grid
_SHOWN_PROMPT = 60  # characters


def make(planned: "Planned", key: str) -> TableResult:
    """Assemble a table, write result.json and its report into the step's folder."""
    one = next(known for known in tables().values() if table_key(known.name) == key)
    result = assemble(one, planned)
    folder = planned.folder(key)
    result.write(folder / results.FILE)
    report.write(result, folder)
    return result


def assemble(one: Table, planned: "Planned") -> TableResult:
    made = {source.name: _Made(source, planned) for source in sources_of(one)}
    entries = [entry for source in made.values() for entry in source.entries()]
    if one.computed_from and not planned.plan.embedded:
        entries = averages.of_sources(one, entries)
    return TableResult(
        name=one.name,
        base=planned.plan.base,
        title=one.title,
        entries=tuple(entries),
        grids=tuple(grid for source in made.values() for grid in source.grids()),
        curves=tuple(curve for source in made.values() for curve in source.curves()),
        facts=_facts(one, planned, made.values()),
    )


class _Made:
    """A table's own models, with the files that they are in now."""

    def __init__(self, one: Table, planned: "Planned"):
        self.one, self.planned, self.plan = one, planned, planned.plan
        self.models = models(one, self.plan)
        self.base = next((run for run in self.models if not trainings(run)), None)

    # ---- numbers -------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        return [*self._embedded()] if self.plan.embedded else averages.with_computed(self.one, [*self._published()])

    def _embedded(self) -> Iterator[Entry]:
        for run in self.models:
            if run == self.base:
                continue
            row = {"method": run.label, "erased": self.one.embedded["erased"]}
            for metric, part, said in self.one.parts(embedded=True):
                what = {**said, "metric": metric, "part": part}
                ours, why = self.number(run, what, row, {})
                own = measures()[what["measure"]].get("knows_before")
                unedited = (run, {**what, "before": True}) if own else (self.base, what)
                before = unedited[0] and self.number(*unedited, row, {})[0]
                yield Entry(
                    run.name, run.label, metric, part, what["better"], what["measure"], None, "", ours, before, why
                )

    def _published(self) -> Iterator[Entry]:
        for position, row in enumerate(self.one.lines):
            cells = [cell for cell in self.one.cells() if cell.row == position]
            numbers: dict[Cell, tuple[Measured | None, str]] = {}
            for cell in sorted(cells, key=lambda cell: cell.measure == "harmonic"):  # computed from the others
                others = {of.metric: ours for of, (ours, _) in numbers.items() if ours and of.part is None}
                numbers[cell] = self._of_cell(cell, row, others)
            for cell in cells:
                ours, why = numbers[cell]
                yield replace(Entry.of(cell, row_name(row)), method=cell.run or cell.method, ours=ours, why=why)

    def _of_cell(
        self, cell: Cell, row: Mapping[str, Any], others: Mapping[str, Measured]
    ) -> tuple[Measured | None, str]:
        if cell.run is None:
            return None, "" if row.get("computed") else "this method is not here"
        metric = self.one.metrics[cell.metric]
        what = metric["parts"][cell.part] if "parts" in metric else metric
        run = self.one.run_of(cell.run, row)
        return self.number(run, {**what, "metric": cell.metric, "part": cell.part}, row, others)

    def number(
        self, run: Run, what: Mapping[str, Any], row: Mapping[str, Any], others: Mapping[str, Measured]
    ) -> tuple[Measured | None, str]:
        """(the number of a run, why there is none). others: those of the same row that are known."""
        found = taken(self.one, run, what["measure"], self.plan)
        if why := next((why for _, out in found if (why := self._why(out))), None):
            return None, why
        try:
            pictures = [(self.now(entry), out) for entry, out in found]
            return takes.take(what, what["measure"], row, pictures, others), ""
        except (UserError, OSError) as error:
            return None, str(error)

    def _why(self, out: Path) -> str | None:
        key = out.relative_to(self.plan.root).as_posix()
        return self.planned.record(key).get("why") if key in self.planned.steps else None

    def now(self, entry: Shown) -> Shown:
        """Pictures with the files of their model."""
        keys = [folder.relative_to(self.plan.root).as_posix() for folder in entry.trainings]
        left = [result for key in keys for result in self.planned.results(key)]
        return replace(
            entry,
            model_flags=tuple(self.planned.filled(word) for word in entry.model_flags),
            trainings=tuple(result if result.is_dir() else result.parent for result in left),
        )

    # ---- pictures and curves -------------------------------------------------------------------------------------

    def grids(self) -> Iterator[Grid]:
        """A few prompts of each prompt file, drawn by all models; on the embedded model, of what is erased and of the rest."""
        for position, entry in enumerate(shown(self.one, self.models[0], self.plan) if self.models else ()):
            folders = {run.name: shown(self.one, run, self.plan)[position].folder for run in self.models}
            rows = read_csv(entry.prompts, 0) if entry.prompts.is_file() else []
            for title, part in self._shared_out(rows, entry.images.prompts):
                names = [f"{row.case_number}{row.mark}_0.png" for row in part]
                files = {name: tuple(str(at / file) for file in names) for name, at in folders.items() if at.is_dir()}
                if names and files:
                    yield Grid(title, tuple(row.prompt[:_SHOWN_PROMPT] for row in part), files)

    def _shared_out(self, rows: Sequence[Row], prompts: str) -> Iterator[tuple[str, list[Row]]]:
        if not self.plan.embedded or not any(row.extra.get("concept") for row in rows):
            yield commands.prompts_path(prompts), _spread(rows, 2 * _PROMPTS)
            return
        erased = self.one.embedded["erased"]
        yield ", ".join(erased), _spread([row for row in rows if row.extra.get("concept") in erased])
        yield "everything else", _spread([row for row in rows if row.extra.get("concept") not in erased])

    def curves(self) -> Iterator[Curve]:
        for run in self.models:
            for measure in self.one.measures(self.plan.embedded):
                for entry, out in taken(self.one, run, measure, self.plan):
                    if self._why(out) is not None:
                        continue
                    if points := measuring.curve(measure, entry, out, (self.one.embedded or {}).get("erased", ())):
                        yield Curve(run.name, f"{measure}: {Path(entry.images.prompts).stem}", tuple(points))


def _spread(rows: Sequence[Row], most: int = _PROMPTS) -> list[Row]:
    """Some of the rows, from the first to the last."""
    count = min(most, len(rows))
    return [rows[round(i * (len(rows) - 1) / max(1, count - 1))] for i in range(count)]


def _facts(one: Table, planned: "Planned", made: Iterable[_Made]) -> dict[str, Any]:
    plan, drawn = planned.plan, [entry for source in made for entry in source.one.drawn(planned.plan.embedded)]
    presets = [PRESETS[entry.preset] for entry in drawn]
    done = [planned.record(key) for key in planned.steps[table_key(one.name)]["needs"]]
    return {
        "source": one.source,
        "settings": {
            **{name: list(dict.fromkeys(getattr(p, name) for p in presets)) for name in ("sampler", "steps")},
            "guidance": list(dict.fromkeys(f"{p.guidance:g}" for p in presets)),
            "noise_device": list(dict.fromkeys(p.noise_device for p in presets)),
            "images": [entry.number for entry in drawn],
            "base_model": plan.base,
            "prompts_csv": [entry.prompts for entry in drawn],
            "presets": list(dict.fromkeys(entry.preset for entry in drawn)),
        },
        "seconds": round(sum(record["seconds"] for record in done)),
        "versions": runs.versions(),
    }
