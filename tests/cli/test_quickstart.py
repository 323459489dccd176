"""The quickstart from the command line: a short real run, a second one, and wrong input."""

import csv
import json

import pytest
from PIL import Image

from tests.cli import process

PICTURES = 12  # ten of the target, two of something else


def run(*arguments, cwd):
    return process.run("-m", "toyworld.quickstart", *arguments, cwd=cwd)


@pytest.mark.slow
def test_from_another_directory_and_again(tmp_path):
    arguments = ("--concept", "Golf Ball", "--iterations", 2, "--pictures", PICTURES, "--out", "out")
    first = run(*arguments, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "Golf Ball" in first.stdout and "->" in first.stdout and "out/report.html" in first.stdout
    out = tmp_path / "out"
    scores = json.loads((out / "scores.json").read_text())
    assert scores["concept"] == "golf ball"
    target = scores["scores"][0]
    assert target["goal"] == "erase" and target["before"]["n"] == 10 and target["before"]["value"] >= 0.9
    assert "noxattn, 2 iterations" in scores["facts"]["edit"]
    assert Image.open(out / "report.png").width > 1000
    assert (out / "report.html").read_text().count("data:image/") >= 2 * PICTURES
    for side in ("before", "after"):
        rows = list(csv.DictReader((out / f"{side}.csv").open()))
        assert len(rows) == PICTURES and all((out / side / row["file"]).is_file() for row in rows)
    changed = [f for f in (out / "before").glob("*.png") if f.read_bytes() != (out / "after" / f.name).read_bytes()]
    assert changed  # even two iterations show in the pixels

    kept = {file: file.stat().st_mtime_ns for file in out.rglob("*.png") if file.parent != out}
    second = run(*arguments, cwd=tmp_path)
    assert second.returncode == 0, second.stderr
    assert second.stdout.count("0 images made") == 2
    assert kept == {file: file.stat().st_mtime_ns for file in kept}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--concept", "vermeer"], "vermeer"),
        (["--pictures", "0"], "--pictures"),
        (["--train_method", "nonsense"], "nonsense"),
        (["--iterations", "0"], "iterations"),
        (["--device", "nonsense"], "--device"),
        (["--no-such-flag"], "--no-such-flag"),
    ],
)
def test_wrong_input_ends_in_one_line_and_exit_2(tmp_path, arguments, said):
    done = run(*arguments, "--out", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1] and "Traceback" not in done.stderr
