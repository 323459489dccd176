"""Edits of several families put together, from the command line, and what a second run keeps."""

import csv
import json

import pytest
from PIL import Image

from erasure.runs import ROOT
from tests.cli import process

SCRIPT = ROOT / "eval-scripts" / "interference.py"


@pytest.mark.slow
def test_families_then_their_edits_again(tmp_path):
    arguments = ("--methods", "uce,rece", "--concepts", "Van Gogh,golf ball", "--pictures", 2, "--others", 0)
    made = process.run("-m", "toyworld.families", *arguments, "--out", "out", "--picture", "small.png", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    out = tmp_path / "out"
    rows = list(csv.DictReader((out / "matrix.csv").open()))
    assert {row["group"] for row in rows} == {"UCE", "RECE"} and {row["n_images"] for row in rows} == {"2"}
    assert len(rows) == 2 * 4 * 2  # groups, selections, targets
    assert all(row["shown"] == "1.0" for row in rows if row["selection"] == "base")
    report = json.loads((out / "report.json").read_text())
    assert [len(group["ways_back"]) for group in report["groups"]] == [3, 3]
    assert all(check["exact"] for group in report["groups"] for check in group["ways_back"])
    assert all(edit["seconds"] > 0 and edit["bytes"] > 1000 for group in report["groups"] for edit in group["edits"])
    small = Image.open(tmp_path / "small.png")
    assert small.width == 1200 and small.mode == "P" and (tmp_path / "small.png").stat().st_size < 300_000

    found = sorted((path.parent for path in out.glob("edits/*/uce-*/edit.safetensors")), reverse=True)  # as above
    arguments = ("--edits", *found, "--save_path", out, "--pictures", 2, "--others", 0)
    again = process.run(SCRIPT, *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    kept = [line for line in again.stdout.splitlines() if " images made" in line]
    assert len(kept) == 4 and all(": 0 images made" in line for line in kept)
    assert "all taken out: bit for bit" in again.stdout
    assert "dpm" in again.stdout and json.loads((out / "settings.json").read_text())["pictures"]["steps"] == 8


def test_help_needs_no_torch():
    assert "--edits" in process.help_without_torch(SCRIPT)
    assert "--concepts" in process.help_without_torch(ROOT / "toyworld" / "families.py")


@pytest.mark.parametrize(
    ("script", "arguments", "said"),
    [
        (SCRIPT, ["--save_path", "out"], "--edits"),
        (SCRIPT, ["--edits", "nothing", "--save_path", "out"], "nothing: no edit there"),
        (SCRIPT, ["--edits", "nothing", "--save_path", "out", "--pictures", "0"], "--pictures"),
        ("-mtoyworld.families", ["--concepts", "vermeer"], "vermeer"),
        ("-mtoyworld.families", ["--others", "-1"], "--others"),
    ],
)
def test_wrong_input_ends_in_one_line_and_exit_2(tmp_path, script, arguments, said):
    done = process.run(script, *arguments, cwd=tmp_path)
    assert done.returncode == 2 and said in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr
