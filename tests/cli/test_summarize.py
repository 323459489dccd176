"""eval-scripts/summarize.py and evaluate_judge.py as a user runs them, on pictures that the embedded world draws."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from erasure.runs import ROOT
from tests.cli.class_pictures import run
from tests.cli.generation_place import refused
from tests.cli.process import help_without_torch

SUMMARIZE, JUDGE = (ROOT / "eval-scripts" / name for name in ("summarize.py", "evaluate_judge.py"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """base/ shows a church three times; edited/ a garbage truck in two of these."""
    from toyworld.world import render

    folder = tmp_path_factory.mktemp("place")
    for name, subjects in (("base", ["church"] * 3), ("edited", ["church", "garbage truck", "garbage truck"])):
        (folder / name).mkdir()
        for case, subject in enumerate(subjects):
            Image.fromarray(render(subject, None, np.random.default_rng(case))).save(folder / name / f"{case}_0.png")
    lines = [f"{case},a church,{case},object,church\n" for case in range(3)]
    (folder / "prompts.csv").write_text("case_number,prompt,evaluation_seed,concept_kind,concept\n" + "".join(lines))
    for name in ("base", "edited"):
        flags = ("--folder_path", name, "--prompts_path", "prompts.csv", "--original_path", "base")
        done = run(JUDGE, *flags, cwd=folder)
        assert done.returncode == 0, done.stderr
        (folder / f"{name}.txt").write_text(done.stdout)
    return folder


def read(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


def test_judge(place):
    found, base = read(place / "edited_judge.summary.json"), read(place / "base_judge.summary.json")
    assert base["value"]["value"] == 1 and found["value"]["value"] == pytest.approx(1 / 3)
    assert len(found["judge"]["sha256"]) == 64 and found["concepts"]["object"]["church"]["n"] == 3
    distance = read(place / "edited_judge_distance.summary.json")
    assert "is not LPIPS" in distance["metric"] and distance["definition"]["not_lpips"] is True
    with open(place / "edited_judge_distance.csv", newline="") as file:
        values = [float(row["judge_distance"]) for row in csv.DictReader(file)]
    assert values[0] == 0 < min(values[1:]) and "not LPIPS" in (place / "edited.txt").read_text()
    assert read(place / "base_judge_distance.summary.json")["value"]["value"] == 0


def test_table(place):
    done = run(SUMMARIZE, "table", ".", "--out", "all.csv", cwd=place)
    assert done.returncode == 0, done.stderr
    with open(place / "all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = {row["file"]: float(row["value"]) for row in rows}
    assert len(values) == 4 and values["base_judge.summary.json"] == 1
    assert all(row["random_weights"] == "0" and row["n"] == "3" for row in rows)


def test_paired(place):
    flags = ("--before", "base_judge.csv", "--after", "edited_judge.csv", "--column", "shown", "--out", "pairs.json")
    done = run(SUMMARIZE, "paired", *flags, cwd=place)
    assert done.returncode == 0 and "exact McNemar: p = 0.5" in done.stdout, done.stderr
    found = read(place / "pairs.json")
    assert found["result"]["only_before"] == 2 and found["value"]["value"] == pytest.approx(-2 / 3)
    flags = (
        "--before",
        "base_judge_distance.csv",
        "--after",
        "edited_judge_distance.csv",
        "--column",
        "judge_distance",
    )
    done = run(SUMMARIZE, "paired", *flags, cwd=place)
    assert done.returncode == 0 and "all 8 sign flips: p = 0.5" in done.stdout, done.stderr


def test_scores(place):
    flags = ("--erased", "edited_judge.summary.json", "--kept", "base_judge.summary.json")
    done = run(SUMMARIZE, "harmonic", *flags, "--out", "h.json", cwd=place)
    assert done.returncode == 0, done.stderr
    found = read(place / "h.json")
    assert found["score"] == "H_c" and found["value"]["value"] == pytest.approx(2 / (1.5 + 1))
    assert found["value"]["low"] < found["value"]["value"] < found["value"]["high"] <= 1
    done = run(SUMMARIZE, "harmonic", *flags, "--synonyms", "edited_judge.summary.json", cwd=place)
    assert done.stdout.startswith(f"H_o: {3 / (1.5 + 1 + 1.5):.6g} ")
    done = run(SUMMARIZE, "difference", *flags, cwd=place)
    assert done.stdout.startswith(f"H_a: {2 / 3:.6g} ")
    done = run(SUMMARIZE, "column", "edited_judge.csv", "--column", "shown", cwd=place)
    assert done.stdout.startswith(f"shown: {1 / 3:.6g} ") and "3 images" in done.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("table", "base"), "no summaries"),
        (("paired", "--before", "base_judge.csv", "--after", "prompts.csv", "--column", "shown"), "no column shown"),
        (("column", "prompts.csv", "--column", "prompt"), "no column of file names"),
        (("column", "base_judge.csv", "--column", "prompt"), "is not a number"),
        (("harmonic", "--erased", "prompts.csv", "--kept", "base_judge.summary.json"), "not the summary of a metric"),
        (("nothing",), "invalid choice"),
    ],
)
def test_mistakes(place, flags, message):
    assert message in refused(run(SUMMARIZE, *flags, cwd=place))


def test_help():
    for script in (SUMMARIZE, JUDGE):
        assert "--" in help_without_torch(script)
    assert "concept_kind" in refused(run(JUDGE, "--folder_path", ROOT, "--prompts_path", "data/evaluate.csv", cwd=ROOT))
