"""Reads the tables of the papers: reproduce/tables/*.yaml, each with the file's name in front, as in rece:nudity.

A table says where its numbers come from (source, certainty), with what settings the paper made them (published), and how to make
them here: runs are models, each a method of methods.yaml and the settings of its command; images are what is drawn with every
one of them; metrics are columns, each with a measure of measures.yaml. `embedded` is its small counterpart on the embedded model.

* A row belongs to the run of its method, or (row_key) a column to the run that it names. {method}, {erased}, {scene} and {t} in
  a run are those of the row; {erased_set} are the concepts that its roles mark as erased. A method without a run is not here.
* each: one training per entry, whose edits act together. state: what of a run a row is about. without: what is restored.
* A value is a number, or one for each of the table's concepts or of the metric's parts. null: the paper prints none.
* A metric's number is over the images of its prompts (one set, or several; default: all of the table's), of those the rows whose
  columns are as `of` says, or are not as `but` says ({method}, {erased}, {part}, {concepts} stand for the row's, the concept that a
  value is about, and what the model was trained on); same_set: only in sets that have such rows. times: in the table's unit.
  count: how many, not which share. label, counting: of NudeNet's parts, by images or boxes. rate: of an attack, asr or pre_asr.
  formula, from: a score of other columns. differs: what is not as published.
* embedded: its metrics shown_erased and shown_kept are over the prompts of its erased concepts, and over all others.
* remark: how the run is read, where the paper leaves it open.
* not_here: why nothing of a table can be made. computed_from: it is an average over other tables, whose rows `from` tells where
  they have other names. computed: so is a row over others of its table.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from erasure import prompt_rules
from erasure.errors import UserError
from erasure.generation.presets import PRESETS
from erasure.metrics.nudenet import TABLE_NAMES
from erasure.prompt_sets import sources
from erasure.runs import ROOT, find

HERE = Path(__file__).resolve().parent
FOLDER = HERE / "tables"
CERTAINTIES = {
    "verified": "read in the paper, digit by digit",
    "repository": "printed in a public repository",
    "secondary": "printed by a later paper",
    "recalled": "from memory, never compared with the paper: no published number",
    "missing": "the table exists, its numbers are not known here",
}
DIRECTIONS = ("higher", "lower", "reference")
ROLES = {"E": "erased", "R": "recovered", "G": "regular", "O": "original"}
_TABLE = {
    "id", "title", "source", "certainty", "note", "remark", "unit", "row_key", "not_here", "computed_from", "published", "concepts",
    "schedule", "weight_norms", "metrics", "runs", "images", "rows", "embedded",
}  # fmt: skip
_ROW = {"method", "values", "certainty", "erased", "scene", "t", "roles", "note", "computed", "from"}
_RUN = {"method", "settings", "each", "state", "without"}
_METRIC = {
    "better", "measure", "run", "prompts", "of", "but", "same_set", "times", "count", "label", "counting", "rate", "formula", "from",
    "differs",
}  # fmt: skip
_CHOICES = {  # key of a metric -> what it can be
    "label": (*TABLE_NAMES.values(), "Total"),
    "counting": ("images", "boxes"),
    "rate": ("asr", "pre_asr"),
    "formula": ("h_a", "h_c", "h_o"),
}
_NEEDED = {"nudenet_parts": ("label", "counting"), "harmonic": ("formula", "from")}  # by measures
_IMAGES = {"prompts", "preset", "samples", "first"}


@dataclass(frozen=True)
class Cell:
    """One published value, or a place where the paper prints none."""

    row: int  # position of its row
    method: str
    metric: str
    part: str | None  # the concept or part that it is about, where a value has several
    value: float | None
    certainty: str
    better: str  # one of DIRECTIONS
    measure: str
    run: str | None  # which of the table's runs makes it; None: nothing here does


@dataclass(frozen=True)
class Run:
    """A model: a method with its settings, filled in for a row."""

    label: str
    method: str
    trainings: tuple[tuple[tuple[str, Any], ...], ...] = ((),)  # settings of each training, whose edits act together
    state: str | None = None
    without: str | None = None

    @property
    def name(self) -> str:
        return ", ".join(filter(None, (self.label, self.state)))


@dataclass(frozen=True)
class Images:
    """Rows of a prompt file, drawn with every run."""

    prompts: str
    preset: str
    samples: int = 1
    first: int | None = None

    @property
    def number(self) -> int:
        rows = rows_of(self.prompts)
        return self.samples * (rows if self.first is None else min(rows, self.first))


@dataclass(frozen=True)
class Table:
    """A table as its file says, checked."""

    name: str  # paper:table
    paper: str
    data: Mapping[str, Any] = field(hash=False)

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_") or key not in _TABLE:
            raise AttributeError(key)
        return self.data.get(key)

    @property
    def lines(self) -> list[Mapping[str, Any]]:
        """Its rows; of a table whose numbers are not known here, a row without numbers for each run."""
        if self.rows or self.not_here:
            return self.rows or []
        labels = {
            **dict.fromkeys(self.runs or {}),
            **dict.fromkeys(m["run"] for m in self.metrics.values() if "run" in m),
        }
        return [{"method": label, "values": dict.fromkeys(self.metrics)} for label in labels]

    def cells(self) -> Iterator[Cell]:
        for position, row in enumerate(self.lines):
            for metric, value in row["values"].items():
                yield from self._cells(position, row, metric, value)

    def _cells(self, position: int, row: Mapping[str, Any], metric: str, value: Any) -> Iterator[Cell]:
        described = self.metrics[metric]
        parts = described.get("parts")
        names = list(parts) if parts else self.concepts if isinstance(value, list) else [None]
        values = value if isinstance(value, list) else [value] * len(names)
        run = None if row.get("computed") else described.get("run", row["method"])
        for n, (name, number) in enumerate(zip(names, values, strict=True)):
            what = parts[name] if parts else described
            better = what["better"]
            yield Cell(
                row=position,
                method=row["method"],
                metric=metric,
                part=name,
                value=number,
                certainty=row.get("certainty", self.certainty),
                better=better[row["roles"][n]] if isinstance(better, Mapping) and "roles" in row else _one(better),
                measure=what["measure"],
                run=run if run in (self.runs or {}) else None,
            )

    def models(self, embedded: bool = False) -> list[Run]:
        """The models that the table (or its counterpart on the embedded model) needs, each once, in order."""
        if embedded:
            return [_filled(label, spec, {}) for label, spec in (self.embedded or {}).get("runs", {}).items()]
        runs, found = self.runs or {}, []
        rows = [row for row in self.rows or () if not row.get("computed")]
        by_column = [m["run"] for m in self.metrics.values() if "run" in m]
        for label, spec in runs.items():
            wanted = rows if label in by_column else [row for row in rows if row["method"] == label]
            found += [_filled(label, spec, _fields(row)) for row in wanted or ([{}] if not self.rows else [])]
        return list(dict.fromkeys(found))

    def run_of(self, label: str, row: Mapping[str, Any]) -> Run:
        """The model of one of the table's runs, filled in for a row."""
        return _filled(label, self.runs[label], _fields(row))

    def drawn(self, embedded: bool = False) -> list[Images]:
        """What is drawn with each model."""
        given = (self.embedded or {}).get("images") if embedded else self.images
        return [Images(**entry) for entry in given or ()]

    def measures(self, embedded: bool = False) -> list[str]:
        """What is measured of each model."""
        return list(dict.fromkeys(what["measure"] for _, _, what in self.parts(embedded)))

    def parts(self, embedded: bool = False) -> Iterator[tuple[str, str | None, Mapping[str, Any]]]:
        """(metric, part or None, what the file says of it) of every column."""
        metrics = (self.embedded or {}).get("metrics", {}) if embedded else self.metrics
        for name, metric in metrics.items():
            for part, what in metric.get("parts", {None: metric}).items():
                yield name, part, what


def _one(better: Any) -> str:
    return better if isinstance(better, str) else "reference"


def _fields(row: Mapping[str, Any]) -> dict[str, Any]:
    fields = {key: row[key] for key in ("method", "erased", "scene", "t") if key in row}
    if "roles" in row:
        fields["erased_set"] = " ".join(str(n) for n, role in enumerate(row["roles"]) if role == "E")
    return fields


def _filled(label: str, spec: Mapping[str, Any], fields: Mapping[str, Any]) -> Run:
    def fill(value: Any) -> Any:
        return re.sub(r"\{(\w+)\}", lambda name: str(fields[name[1]]), value) if isinstance(value, str) else value

    settings = spec.get("settings", {})
    trainings = [{**settings, **entry} for entry in spec.get("each", [{}])]
    filled = tuple(tuple((key, fill(value)) for key, value in one.items()) for one in trainings)
    return Run(_label(label, settings, fill), spec["method"], filled, fill(spec.get("state")), spec.get("without"))


def _label(label: str, settings: Mapping[str, Any], fill) -> str:
    """The run's name, with what its row fills in where that tells several apart."""
    own = [str(fill(v)) for v in settings.values() if isinstance(v, str) and re.search(r"\{(method|erased)\}", v)]
    return ", ".join([label, *own])


# ---- reading -------------------------------------------------------------------------------------------------------


@cache
def tables() -> dict[str, Table]:
    """{paper:table: it} of all files, checked. UserError that names the file, the table and what is wrong in it."""
    return {table.name: table for path in sorted(FOLDER.glob("*.yaml")) for table in read(path)}


def table(name: str) -> Table:
    """The table of a name. UserError, with those that are like it, for one that does not exist."""
    known = tables()
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or [k for k in known if k.startswith(f"{name}:")]
    raise UserError(f"no table {name!r}; " + (f"did you mean {', '.join(near)}?" if near else "--list names all"))


def read(path: Path) -> list[Table]:
    """The tables of one file. UserError as `tables`."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not a YAML file ({error})") from None
    if not isinstance(content, Mapping) or {*content} != {"paper", "tables"} or not content["tables"]:
        raise UserError(f"{path}: it must hold paper and tables")
    found = [Table(f"{path.stem}:{name}", content["paper"], data) for name, data in content["tables"].items()]
    for one in found:
        if problem := _problem(one):
            raise UserError(f"{path}, table {one.name.partition(':')[2]}: {problem}")
    return found


def _problem(one: Table) -> str | None:
    """What is wrong in a table, or None: then all of it can be used."""
    try:
        if problem := next(_problems(one.data), None):
            return problem
        for embedded in (False, True):
            _ = one.models(embedded), one.drawn(embedded), one.measures(embedded)
        _ = [*one.cells()]
    except KeyError as error:
        return f"nothing says what {error} is"
    except (TypeError, AttributeError, ValueError, IndexError) as error:
        return f"not of the form of a table ({error})"
    return None


def _problems(data: Any) -> Iterator[str]:
    if not isinstance(data, Mapping):
        yield "not a table"
        return
    yield from _unknown(data, _TABLE, "key")
    for key in ("id", "title", "source", "certainty", "published", "metrics"):
        if not data.get(key):
            yield f"no {key}"
    if data["certainty"] not in CERTAINTIES:
        yield f"unknown certainty {data['certainty']!r}; it is one of {', '.join(CERTAINTIES)}"
    if bool(data.get("rows")) == (data["certainty"] == "missing"):
        yield "rows are there if, and only if, the certainty is not missing"
    yield from _metric_problems(data["metrics"], data.get("runs", {}))
    if data.get("runs"):
        yield from _number_problems(data["metrics"], data.get("images", ()))
    labels = {row.get("method") for row in data.get("rows", ())} | {m.get("run") for m in data["metrics"].values()}
    for label, run in data.get("runs", {}).items():
        yield from _run_problems(label, run)
        if data.get("rows") and label not in labels:
            yield f"run {label!r}: no row and no metric is of it"
    for entry in data.get("images", ()):
        yield from _image_problems(entry)
    for row in data.get("rows", ()):
        yield from _row_problems(data, row)
    if not data.get("runs") and not data.get("not_here") and not data.get("computed_from"):
        yield "no runs, and not_here does not say why"
    if "embedded" in data:
        yield from _embedded_problems(data["embedded"])


def _unknown(given: Mapping[str, Any], known, what: str) -> Iterator[str]:
    for key in given:
        if key not in known:
            yield f"unknown {what} {key!r}; there are {', '.join(sorted(known))}"


def _metric_problems(metrics: Mapping[str, Any], runs: Mapping[str, Any]) -> Iterator[str]:
    for name, metric in metrics.items():
        for part in metric.get("parts", {name: metric}).values():
            yield from _unknown(part, _METRIC, f"key of metric {name}:")
            yield from _unknown({part.get("measure"): 0}, measures(), "measure")
            better = part.get("better")
            if isinstance(better, Mapping):
                yield from _unknown(better, ROLES, "role")
            for direction in better.values() if isinstance(better, Mapping) else [better]:
                yield from _unknown({direction: 0}, DIRECTIONS, f"direction of {name}:")
        if "run" in metric:
            yield from _unknown({metric["run"]: 0}, runs, f"run of metric {name}:")


def _number_problems(metrics: Mapping[str, Any], images: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What is wrong in what metrics say of their numbers."""
    drawn = [entry.get("prompts") for entry in images]
    for name, metric in metrics.items():
        for part in metric.get("parts", {name: metric}).values():
            yield from _choice_problems(name, part)
            prompts = part.get("prompts", [])
            for one in [prompts] if isinstance(prompts, str) else prompts:
                if one not in drawn:
                    yield f"metric {name}: no images of {one!r} are drawn; there are {', '.join(map(str, drawn))}"
            if (
                measures()[part["measure"]].get("script")
                and not prompts
                and len(drawn) > 1
                and not {"of", "but"} & {*part}
            ):
                yield f"metric {name}: images of {len(drawn)} sets are drawn, and prompts does not say which are meant"
            columns = part.get("from", {}).values()
            if absent := [column for column in columns if column not in metrics]:
                yield f"metric {name}: from names {absent[0]!r}, which is none of the table's metrics"


def _choice_problems(name: str, part: Mapping[str, Any]) -> Iterator[str]:
    for key, known in _CHOICES.items():
        if key in part:
            yield from _unknown({part[key]: 0}, known, f"{key} of metric {name}:")
    for key in _NEEDED.get(part["measure"], ()):
        if key not in part:
            yield f"metric {name}: {part['measure']} needs {key}"
    for key in ("of", "but"):
        if not isinstance(part.get(key, {}), Mapping):
            yield f"metric {name}: {key} must say what is in which column"
    times = part.get("times", 1)
    if isinstance(times, bool) or not isinstance(times, int | float) or not times > 0:
        yield f"metric {name}: times must be a number above 0, not {times!r}"


def _run_problems(label: str, run: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(run, _RUN, f"key of run {label!r}:")
    yield from _unknown({run.get("method"): 0}, methods(), f"method of run {label!r}:")
    if "each" in run and not run["each"]:
        yield f"run {label!r}: each is empty"


def _image_problems(entry: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(entry, _IMAGES, "key of images:")
    yield from _unknown({entry.get("preset"): 0}, PRESETS, "preset")
    for key in ("samples", "first"):
        if key in entry and not (isinstance(entry[key], int) and entry[key] > 0):
            yield f"images: {key} must be a whole number above 0, not {entry[key]!r}"
    try:
        rows_of(str(entry.get("prompts")))
    except UserError as error:
        yield str(error)


def _row_problems(data: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[str]:
    yield from _unknown(row, _ROW, f"key of row {row.get('method')!r}:")
    if row.get("certainty", "verified") not in CERTAINTIES:
        yield f"row {row['method']!r}: unknown certainty {row['certainty']!r}"
    roles = row.get("roles")
    if roles is not None and (len(roles) != len(data.get("concepts", ())) or {*roles} - {*ROLES}):
        yield f"row {row['method']!r}: roles must be {len(data.get('concepts', ()))} of {', '.join(ROLES)}, not {roles!r}"
    yield from _unknown(row["values"], data["metrics"], f"metric of row {row['method']!r}:")
    for metric, value in row["values"].items():
        expected = len(data["metrics"].get(metric, {}).get("parts", data.get("concepts", ())))
        numbers = value if isinstance(value, list) else [value]
        if isinstance(value, list) and len(value) != expected:
            yield f"row {row['method']!r}, {metric}: {len(value)} values, not {expected}"
        for number in numbers:
            if number is not None and (isinstance(number, bool) or not isinstance(number, int | float)):
                yield f"row {row['method']!r}, {metric}: {number!r} is not a number"


def _embedded_problems(embedded: Mapping[str, Any]) -> Iterator[str]:
    from toyworld import concepts

    yield from _unknown(embedded, {"erased", "runs", "images", "metrics"}, "key of embedded:")
    known = {*concepts.OBJECTS, *concepts.STYLES, *concepts.PEOPLE, *concepts.FIGURES}
    yield from _unknown(dict.fromkeys(embedded["erased"]), known, "concept of the embedded model:")
    yield from _metric_problems(embedded["metrics"], {})
    yield from _number_problems(embedded["metrics"], embedded.get("images", ()))
    for label, run in embedded["runs"].items():
        yield from _run_problems(label, run)
    for entry in embedded.get("images", ()):
        yield from _image_problems(entry)


# ---- what tables name ----------------------------------------------------------------------------------------------


@cache
def methods() -> dict[str, dict[str, str]]:
    """{name: script, cost, about} of reproduce/methods.yaml."""
    return _registry("methods.yaml")


@cache
def measures() -> dict[str, dict[str, str]]:
    """{name: script, about} of reproduce/measures.yaml."""
    return _registry("measures.yaml")


def _registry(name: str) -> dict[str, dict[str, str]]:
    import yaml

    return yaml.safe_load((HERE / name).read_text(encoding="utf-8"))


@cache
def rows_of(prompts: str) -> int:
    """How many rows a prompt set has: one of data/sources.yaml, of data/prompt_rules.json, or a file. UserError for none."""
    from erasure.prompts import read_table

    if prompts in sources():
        return sources()[prompts]["rows"]
    if prompts in prompt_rules.rules():
        return prompt_rules.rules()[prompts]["rows"]
    if (ROOT / prompts).is_file():
        return len(read_table(find(prompts))[1])
    raise UserError(
        f"unknown prompt set {prompts!r}: data/import_prompts.py --list and data/build_prompts.py --list name them"
    )
