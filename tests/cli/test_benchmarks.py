"""The benchmark commands, on the smallest sizes; no timings are asserted."""

import importlib
import json

import pytest

from benchmarks import harness, render
from erasure.errors import UserError
from erasure.runs import ROOT
from tests.cli import process

TOPICS = ("unet", "esd", "closed_form", "sepce", "nullspace", "cpe", "gates", "images")


def call(script, *arguments, cwd=None):
    return process.run(ROOT / "benchmarks" / script, *arguments, cwd=cwd)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A quick run of everything from another directory: (process, its figures, their file)."""
    folder = tmp_path_factory.mktemp("benchmarks")
    options = ("--quick", "--models", "toy", "--dtypes", "float32", "--batches", 1, 3, "--threads", 1)
    done = call("run.py", *options, "--json", "figures.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    return done, json.loads((folder / "figures.json").read_text()), folder / "figures.json"


@pytest.mark.slow
def test_measures_every_topic(quick):
    done, figures, _ = quick
    assert tuple(figures["results"]) == TOPICS
    assert figures["command"].startswith("python benchmarks/run.py --quick")
    assert {"cpu", "cores", "threads", "torch", "diffusers", "date"} <= figures["machine"].keys()
    unet, esd, closed_form, sepce, nullspace, cpe, gates, images = (figures["results"][name]["rows"] for name in TOPICS)
    assert [row["mode"] for row in unet] == ["forward", "forward + backward"]
    assert all(row["difference"] < 1e-4 and row["ratio_low"] <= row["ratio"] <= row["ratio_high"] for row in unet)
    assert 0 < esd[0]["ours_memory"] < esd[0]["peer_memory"] and esd[0]["ratio"] > 0
    assert [row["batch"] for row in images] == [1, 3] and images[0]["ratio"] == 1
    assert all(row["edit_s"] > 0 and row.get("ratio", 1) > 0 for row in closed_form)
    assert all(row["bytes"] <= 2.4e6 and row["bytes_per_row"] <= 8000 for row in closed_form if "bytes" in row)
    assert 0 < sepce[0]["ours_memory"] < sepce[0]["peer_memory"] and sepce[0]["ratio"] > 0
    assert nullspace[0]["difference"] < 1e-3 and all(row["rref_s"] > 0 and row["svd_s"] > 0 for row in nullspace)
    first, later, attack, whole = cpe[1:5]
    assert all(row["ratio"] > 0 and row["iterations"] > 0 for row in (first, later, attack))
    assert whole["ours_s"] == pytest.approx(sum(row["iterations"] * row["ours_s"] for row in (first, later, attack)))
    assert 0 < whole["ours_memory"] < whole["peer_memory"] and all(row["ours_s"] > 0 for row in cpe)
    assert gates[0]["forward_s"] > 0 and gates[0]["load_s"] > 0 and gates[0]["bytes"] > 10_000
    assert all(f"\n{importlib.import_module(f'benchmarks.{name}').TITLE}\n" in done.stdout for name in TOPICS)
    assert done.stdout.count("\n|--") == len(TOPICS)


def test_tables_come_from_the_figures(quick, tmp_path):
    _, figures, file = quick
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{render.START}\nold\n{render.END}\nafter\n")
    assert call("render.py", file, "--readme", readme, "--check").returncode == 1
    assert call("render.py", file, "--readme", readme).returncode == 0
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "\nold\n" not in text
    assert f"`{figures['command']}`" in text and figures["machine"]["date"] in text
    assert f"| **{figures['results']['unet']['rows'][0]['ratio']:.2f}**" in text
    assert call("render.py", file, "--readme", readme, "--check").returncode == 0


def test_readme_has_the_figures_of_the_repository():
    done = call("render.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("speed",), "unknown topic 'speed'"),
        (("--latents", 12), "multiple of 8"),
        (("--batches", 0), "--batches"),
        (("--threads", 0), "greater than 0"),
        (("--models", "sdxl"), "invalid choice"),
        (("--unknown",), "unrecognized"),
    ],
)
def test_mistakes_are_named(arguments, message):
    done = call("run.py", *arguments)
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_file_of_something_else_is_refused(tmp_path):
    (tmp_path / "x.json").write_text('{"results": {}}')
    with pytest.raises(UserError, match="not a file of run.py"):
        render.section(tmp_path / "x.json")


def test_variants_are_called_in_turns():
    calls = []
    variants = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = harness.interleave(variants, "cpu", seconds=0, rounds=(3, 9))
    assert "".join(calls) == "ab" * 4 and {len(values) for values in times.values()} == {3}


def test_ratios_are_taken_pair_by_pair():
    """A machine that is four times slower in the second pair changes both times and not the ratio."""
    found = harness.compare({"ours": [1.0, 4.0, 1.0], "peer": [2.0, 8.0, 2.0]})
    assert found["ratio"] == found["ratio_low"] == found["ratio_high"] == 2 and found["rounds"] == 3
    assert found["ours_s"] == 1 and found["peer_s"] == 2


def test_table_shows_missing_values_as_dashes():
    columns = [harness.Column("name", "name"), harness.Column("value", "value", "{:.1f}".format)]
    lines = harness.table([{"name": "a", "value": 1.25}, {"name": "longer"}], columns).splitlines()
    assert lines[2:] == ["| a      | 1.2   |", "| longer | -     |"] and len({len(line) for line in lines}) == 1
