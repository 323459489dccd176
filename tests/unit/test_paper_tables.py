"""The tables of the papers: what their files say is what was published, checked when it is read, and can be made."""

import copy
import statistics
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.prompts import read_table
from erasure.runs import ROOT
from reproduce import tables

TABLES = tables.tables()
PAPERS = ("esd", "uce", "rece", "sepce", "cpe")
NUMBERS = ROOT.parent / "shared" / "golden" / "paper_numbers.yaml"
beside = pytest.mark.skipif(not NUMBERS.is_file(), reason="the transcribed numbers are not beside the repository")


@pytest.fixture(scope="module")
def published():
    return {e["id"]: e for e in yaml.safe_load(NUMBERS.read_text(encoding="utf-8"))["experiments"]}


# ---- what was published --------------------------------------------------------------------------------------------


@beside
def test_every_published_table_is_here(published):
    assert sorted(one.id for one in TABLES.values()) == sorted(published)


@beside
@pytest.mark.parametrize("name", TABLES)
def test_every_published_value_is_here(published, name):
    one, experiment = TABLES[name], published[TABLES[name].id]
    for key in ("title", "source", "note", "unit", "row_key", "concepts", "schedule", "weight_norms"):
        assert getattr(one, key) == experiment.get(key)
    assert one.published == experiment["settings"]
    assert [*one.metrics] == [*experiment["metrics"]]
    assert [{k: v for k, v in row.items() if k not in ("computed", "from")} for row in one.rows or ()] == experiment[
        "rows"
    ]
    numbers = [value for row in experiment["rows"] for value in row["values"].values()]
    flat = [number for value in numbers for number in (value if isinstance(value, list) else [value])]
    assert [c.value for c in one.cells() if c.value is not None] == [v for v in flat if v is not None]
    for cell in one.cells():
        row = experiment["rows"][cell.row] if experiment["rows"] else {}  # of a missing table, only its runs are known
        assert cell.certainty == row.get("certainty", experiment["certainty"])
    for metric, better in experiment["metrics"].items():
        if better in tables.DIRECTIONS:
            assert one.metrics[metric]["better"] == better


def test_totals_are_the_sums_of_their_columns():
    for name in ("rece:nudity", "mace:nudity", "cpe:nudity"):
        for row in TABLES[name].rows:
            parts = [n for metric, n in row["values"].items() if metric not in ("total", "fid", "clip")]
            assert sum(parts) == row["values"]["total"]


@pytest.mark.parametrize(("name", "off"), [("esd:objects", 0.06), ("uce:objects", 0.06)])
def test_averages_are_those_of_their_rows(name, off):
    """Rounded to a digit; a computed row belongs to no run."""
    (average,) = [row for row in TABLES[name].rows if row.get("computed")]
    for metric, value in average["values"].items():
        others = [row["values"][metric] for row in TABLES[name].rows if row is not average]
        assert abs(statistics.mean(others) - value) <= off
    assert all(cell.run is None for cell in TABLES[name].cells() if cell.method == "average")


def test_directions_follow_the_role_of_a_concept():
    for name in ("sepce:styles", "sepce:objects_rivals", "sepce:weights"):
        one = TABLES[name]
        for cell in one.cells():
            role = one.rows[cell.row]["roles"][one.concepts.index(cell.part)]
            wanted = "reference" if role == "O" else {"E": "lower"}.get(role, "higher")
            flipped = {"higher": "lower", "lower": "higher"}.get(wanted, wanted)
            assert cell.better == (wanted if cell.metric == "acc" else flipped)


# ---- what is made of them ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TABLES if name.split(":")[0] in PAPERS])
def test_has_a_counterpart_on_the_embedded_model(name):
    one = TABLES[name]
    if one.not_here:
        assert not one.runs and not one.embedded
    elif one.computed_from:
        assert all(TABLES[other].embedded for other in one.computed_from)
    else:
        assert one.models() and one.models(embedded=True)
        for drawn in one.drawn(embedded=True):
            assert drawn.preset == "toy-fast" and (ROOT / drawn.prompts).is_file()


@pytest.mark.parametrize("name", [name for name, one in TABLES.items() if "judge" in one.measures(embedded=True)])
def test_its_prompts_ask_for_what_is_erased_and_for_more(name):
    one = TABLES[name]
    asked = set()
    for drawn in one.drawn(embedded=True):
        asked |= {row.get("concept") for row in read_table(ROOT / drawn.prompts)[1]}
    erased = {*one.embedded["erased"]}
    assert erased <= asked and len(asked - erased - {None}) >= 10


def test_cells_name_the_run_that_makes_them():
    runs = {cell.method: cell.run for cell in TABLES["rece:nudity"].cells()}
    assert runs == {"SD v1.4": "SD v1.4", "SLD-Medium": None, "ESD-u": "ESD-u", "SA": None, "RECE": "RECE"}
    columns = {(cell.metric, cell.run) for cell in TABLES["esd:objects"].cells() if cell.method == "church"}
    assert ("acc_erased_sd", "sd") in columns and ("acc_others_esd_u", "esd_u") in columns


def test_runs_are_filled_in_for_their_rows():
    runs = TABLES["esd:objects"].models()
    assert [run.method for run in runs] == ["base"] + 10 * ["esd"]
    assert dict(runs[3].trainings[0])["prompt"] == "church" and runs[3].name == "esd_u, church"
    rivals = [run for run in TABLES["sepce:styles_rivals"].models() if run.label == "FMN30"]
    assert [run.state for run in rivals][:2] == ["erased 0 1 2 3 4 5", "erased 2 3 4 5"]
    assert [dict(one)["erased_index"] for one in rivals[0].trainings] == [*range(6)]
    scenes = [run for run in TABLES["sepce:styles"].models() if run.method == "scenes"]
    assert {dict(run.trainings[0])["SCENE"] for run in scenes} == {*"1234"} and len(scenes) == 17


def test_every_measure_and_method_is_a_command_or_says_why_not():
    for registry in (tables.methods(), tables.measures()):
        for entry in registry.values():
            assert entry["about"] and ("script" not in entry or (ROOT / entry["script"]).is_file())


# ---- reading -------------------------------------------------------------------------------------------------------

SMALL = {
    "id": "x.table", "title": "t", "source": "s", "certainty": "verified", "published": {"images": 3},
    "metrics": {"a": {"better": "lower", "measure": "fid"}},
    "runs": {"SD": {"method": "base"}},
    "images": [{"prompts": "i2p", "preset": "esd"}],
    "rows": [{"method": "SD", "values": {"a": 1.5}}],
    "embedded": {"erased": ["van gogh"], "runs": {"x": {"method": "base"}}, "metrics": {"b": {"better": "lower", "measure": "judge"}}},
}  # fmt: skip


def write(folder: Path, table) -> Path:
    path = folder / "paper.yaml"
    path.write_text(yaml.safe_dump({"paper": "P", "tables": {"one": table}}))
    return path


def test_a_small_table_is_read(tmp_path):
    (one,) = tables.read(write(tmp_path, SMALL))
    assert one.name == "paper:one" and [image.number for image in one.drawn()] == [4703]
    (cell,) = one.cells()
    assert (cell.method, cell.value, cell.certainty, cell.better, cell.run) == ("SD", 1.5, "verified", "lower", "SD")
    with pytest.raises(AttributeError):
        _ = one.nothing


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("certainty", "sure", "unknown certainty 'sure'; it is one of verified"),
        ("certainty", "missing", "rows are there if, and only if"),
        ("extra", 1, "unknown key 'extra'"),
        ("title", "", "no title"),
        ("metrics/a/measure", "beauty", "unknown measure 'beauty'; there are attack_concept_inversion"),
        ("metrics/a/better", "up", "unknown direction of a: 'up'; there are higher, lower, reference"),
        ("metrics/a/better", {"X": "higher"}, "unknown role 'X'"),
        ("metrics/a/size", 1, "unknown key of metric a: 'size'"),
        ("metrics/a/prompts", "nowhere.csv", "metric a: no images of 'nowhere.csv' are drawn; there are i2p"),
        ("metrics/a/of", "class", "metric a: of must say what is in which column"),
        ("metrics/a/times", 0, "metric a: times must be a number above 0, not 0"),
        ("metrics/a/rate", "all", "unknown rate of metric a: 'all'; there are asr, pre_asr"),
        ("metrics/a/counting", "people", "unknown counting of metric a: 'people'; there are boxes, images"),
        ("metrics/a/label", "Hands", "unknown label of metric a: 'Hands'; there are Armpits"),
        ("metrics/a/measure", "nudenet_parts", "metric a: nudenet_parts needs label"),
        (
            "metrics/a",
            {"better": "lower", "measure": "harmonic", "formula": "h_c", "from": {"kept": "b"}},
            "metric a: from names 'b', which is none of the table's metrics",
        ),
        (
            "images",
            [{"prompts": "i2p", "preset": "esd"}, {"prompts": "imagenette.csv", "preset": "esd"}],
            "metric a: images of 2 sets are drawn, and prompts does not say which are meant",
        ),
        ("metrics/a/run", "nobody", "unknown run of metric a: 'nobody'"),
        ("runs/SD/method", "magic", "unknown method of run 'SD': 'magic'; there are abconcept, base"),
        ("runs/SD/seed", 1, "unknown key of run 'SD': 'seed'"),
        ("runs/SD/each", [], "each is empty"),
        ("runs/other", {"method": "base"}, "run 'other': no row and no metric is of it"),
        ("runs", {}, "no runs, and not_here does not say why"),
        ("images/0/prompts", "nowhere.csv", "unknown prompt set 'nowhere.csv'"),
        ("images/0/preset", "slow", "unknown preset 'slow'"),
        ("images/0/samples", 0, "samples must be a whole number above 0, not 0"),
        ("images/0/count", 5, "unknown key of images: 'count'"),
        ("rows/0/values/b", 2, "unknown metric of row 'SD': 'b'"),
        ("rows/0/values/a", "2", "row 'SD', a: '2' is not a number"),
        ("rows/0/values/a", [1, 2], "row 'SD', a: 2 values, not 0"),
        ("rows/0/certainty", "sure", "row 'SD': unknown certainty 'sure'"),
        ("rows/0/roles", "EE", "row 'SD': roles must be 0 of"),
        ("rows/0/sampler", "lms", "unknown key of row 'SD': 'sampler'"),
        ("embedded/erased", ["mona lisa"], "unknown concept of the embedded model: 'mona lisa'"),
        ("embedded/runs/x/method", "magic", "unknown method of run 'x': 'magic'"),
        ("embedded/metrics/b/measure", "beauty", "unknown measure 'beauty'"),
        ("embedded/images", [{"prompts": "nope", "preset": "toy"}], "unknown prompt set 'nope'"),
    ],
)
def test_mistakes_in_a_table(tmp_path, place, value, what):
    changed = copy.deepcopy(SMALL)
    *folders, name = [int(part) if part.isdigit() else part for part in place.split("/")]
    inner = changed
    for folder in folders:
        inner = inner[folder]
    inner[name] = value
    with pytest.raises(UserError) as error:
        tables.read(write(tmp_path, changed))
    assert what in str(error.value) and "paper.yaml, table one: " in str(error.value)


@pytest.mark.parametrize("text", ["", "a: [", "paper: P\ntables: {}\n", "- 1\n"])
def test_files_that_hold_no_tables(tmp_path, text):
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match="x.yaml: "):
        tables.read(path)


def test_an_unknown_table_is_not_found():
    with pytest.raises(UserError, match="no table 'rece:nudty'; did you mean rece:nudity"):
        tables.table("rece:nudty")
    with pytest.raises(UserError, match="--list names all"):
        tables.table("????")


ANYTHING = st.recursive(
    st.sampled_from([None, True, 0, -1, 2.5, "", "a", "SD", "{erased}", "{nothing}", "verified"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "method", "better"]), inner, max_size=2)
    ),
    max_leaves=3,
)


def places(node, path=()):
    """The path of every node below one of a table."""
    for key, inner in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


@settings(deadline=None)
@given(st.sampled_from(list(places(SMALL))), ANYTHING)
def test_a_table_is_refused_in_words_or_can_be_used(tmp_path_factory, place, value):
    changed = copy.deepcopy(SMALL)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    try:
        (one,) = tables.read(write(tmp_path_factory.mktemp("tables"), changed))
    except UserError as error:
        assert "table one: " in str(error)
        return
    assert all(cell.certainty in tables.CERTAINTIES and cell.better in tables.DIRECTIONS for cell in one.cells())
    for embedded in (False, True):
        assert all(run.method in tables.methods() for run in one.models(embedded))
        assert all(drawn.number > 0 for drawn in one.drawn(embedded))
        assert {*one.measures(embedded)} <= {*tables.measures()}


NUMBER = st.one_of(st.none(), st.integers(-5, 5), st.floats(0, 1, allow_nan=False))


@settings(deadline=None)
@given(st.lists(st.lists(NUMBER, min_size=3, max_size=3), min_size=1, max_size=4), st.integers(0, 3))
def test_every_value_is_one_cell(values, own):
    """Lists of values are one cell for each concept, in order; a row's own certainty counts for its cells only."""
    rows = [{"method": f"m{n}", "values": {"a": value}, "roles": "ERG"} for n, value in enumerate(values)]
    if own < len(rows):
        rows[own]["certainty"] = "recalled"
    better = {"E": "lower", "R": "higher", "G": "higher"}
    data = {**SMALL, "rows": rows, "concepts": ["x", "y", "z"], "metrics": {"a": {"better": better, "measure": "fid"}}}
    cells = list(tables.Table("p:t", "P", data).cells())
    assert [cell.value for cell in cells] == [number for value in values for number in value]
    assert [cell.part for cell in cells] == ["x", "y", "z"] * len(rows)
    assert [cell.better for cell in cells] == ["lower", "higher", "higher"] * len(rows)
    assert [cell.certainty == "recalled" for cell in cells] == [cell.row == own for cell in cells]
