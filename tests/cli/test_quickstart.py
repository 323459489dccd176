"""The quickstart from the command line: a short real run, a second one, and wrong input."""

import csv
import json

import pytest
from PIL import Image

from tests.cli import process

PICTURES = 12  # ten of the target, two of something else
LABELS, VERSIONS = ["base", "ESD", "UCE", "RECE", "SepCE", "CPE"], ["base", "esd", "uce", "rece", "sepce", "cpe"]


def run(*arguments, cwd):
    return process.run("-m", "toyworld.quickstart", *arguments, cwd=cwd)


@pytest.mark.slow
def test_from_another_directory_and_again(tmp_path):
    arguments = ("--concept", "Golf Ball", "--iterations", 2, "--pictures", PICTURES, "--out", "out")
    first = run(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Golf Ball" in first.stdout and "out/report.html" in first.stdout
    table = [line.split()[0] for line in first.stdout.splitlines() if "[" in line and "%" in line and "]" in line]
    assert table[-len(LABELS) :] == LABELS
    out = tmp_path / "out"
    scores = json.loads((out / "scores.json").read_text())
    assert scores["concept"] == "golf ball" and scores["versions"] == VERSIONS
    target = scores["scores"][0]
    assert target["goal"] == "erase" and target["versions"]["base"]["n"] == 10
    assert target["versions"]["base"]["value"] >= 0.9
    assert "2 iterations, noxattn" in scores["facts"]["ESD"]
    assert scores["costs"].keys() == set(VERSIONS[1:]) and all(c["seconds"] > 0 for c in scores["costs"].values())
    assert Image.open(out / "report.png").width > 1000
    assert (out / "report.html").read_text().count("data:image/") == len(VERSIONS) * PICTURES
    for version in VERSIONS:
        rows = list(csv.DictReader((out / f"{version}.csv").open()))
        assert len(rows) == PICTURES and all((out / version / row["file"]).is_file() for row in rows)
    for version in VERSIONS[1:]:  # even two iterations show in the pixels
        assert any(f.read_bytes() != (out / version / f.name).read_bytes() for f in (out / "base").glob("*.png"))

    kept = {file: file.stat().st_mtime_ns for file in out.rglob("*.png") if file.parent != out}
    second = run(*arguments, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("0 images made") == len(VERSIONS)
    assert kept == {file: file.stat().st_mtime_ns for file in kept}
    assert json.loads((out / "scores.json").read_text()) == scores


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--concept", "vermeer"], "vermeer"),
        (["--pictures", "0"], "--pictures"),
        (["--train_method", "nonsense"], "nonsense"),
        (["--iterations", "0"], "iterations"),
        (["--device", "nonsense"], "--device"),
        (["--methods", "uce,esdx"], "esdx"),
        (["--methods", ""], "--methods"),
        (["--methods", "uce", "--iterations", "3"], "--iterations"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_wrong_input_ends_in_one_line_and_exit_2(tmp_path, arguments, said):
    done = run(*arguments, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr
