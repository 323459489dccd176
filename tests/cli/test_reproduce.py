"""reproduce/run.py: lists the papers' tables, says what it takes to make them, and makes one."""

import os
import signal
import subprocess
import sys
import time

import pytest

from erasure.base_models import SD_CKPT
from erasure.errors import UserError
from erasure.runs import ROOT, find
from reproduce import results
from reproduce.steps import KINDS
from reproduce.tables import tables
from tests.cli.process import help_without_torch, load, run

SCRIPT = ROOT / "reproduce" / "run.py"


def test_help_needs_no_torch():
    assert "--dry-run" in help_without_torch(SCRIPT)


def test_lists_all_tables(capsys):
    load(SCRIPT).main(["--list"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(tables())
    load(SCRIPT).main(["--list", "sepce"])
    assert len(capsys.readouterr().out.splitlines()) == sum(name.startswith("sepce:") for name in tables())


def test_says_what_a_table_says(capsys):
    load(SCRIPT).main(["--list", "rece:nudity"])
    said = capsys.readouterr().out
    total = next(line for line in said.splitlines() if line.split()[:2] == ["RECE", "total"])
    assert total.split()[2:] == ["66?", "lower", "nudenet_parts"]
    assert "recalled: from memory" in said and "NudeNet v3" in said
    load(SCRIPT).main(["--list", "esd:nudity"])
    assert " 134 " in capsys.readouterr().out  # of a verified number nothing is said


def test_a_dry_run_lists_jobs(capsys):
    load(SCRIPT).main(["--table", "rece:nudity", "--dry-run"])
    lines = capsys.readouterr().out.splitlines()
    assert "rece:nudity on toy" in lines[0]
    assert any("methods/rece/train.py --concepts nudity" in line for line in lines)
    (total,) = [line.split() for line in lines if line.startswith("total")]
    images = [int(line.split()[1]) for line in lines if line.startswith("images")]
    assert int(total[1]) == sum(images) > 0
    assert int(total[-2]) == len([line for line in lines if line.split()[0] in KINDS])


def test_hours_follow_the_device(capsys):
    hours = []
    for flags in ((), ("--tflops", "40")):
        load(SCRIPT).main(["--table", "esd:nudity", "--base", "sd-v1-4", "--dry-run", *flags])
        hours.append(float(capsys.readouterr().out.split("\ntotal")[1].split()[2]))
    assert hours[1] == pytest.approx(hours[0] / 2, rel=0.05)


@pytest.mark.parametrize("base", ["toy", "sd-v1-4"])
def test_all_of_them_can_be_listed(base, capsys):
    load(SCRIPT).main(["--table", "all", "--base", base, "--dry-run"])
    assert "\ntotal" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "--table rece:nudity --dry-run"),
        (["--table", "rece:nudity", "--cores", "0"], "--cores must be above 0, not 0"),
        (["--table", "esd:coco", "--coco_reference", "nowhere"], "--coco_reference nowhere: no such file or folder"),
        (["--table", "rece:nud", "--dry-run"], "no table 'rece:nud'; did you mean rece:nudity"),
        (["--table", "rece:nudity", "--dry-run", "--tflops", "0"], "--tflops must be above 0"),
        (["--list", "nobody"], "no paper 'nobody'; there are cpe, esd"),
    ],
)
def test_mistakes(arguments, what):
    with pytest.raises(UserError, match=what):
        load(SCRIPT).main(arguments)


@pytest.mark.skipif(find(SD_CKPT).exists(), reason="Stable Diffusion is here")
def test_a_base_model_that_is_not_here_is_missed_before_anything_runs(tmp_path):
    done = run(SCRIPT, "--table", "rece:nudity", "--base", "sd-v1-4", "--out", "made", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert "sd-v1-4" in done.stderr and not (tmp_path / "made").exists()


# ---- making one ----------------------------------------------------------------------------------------------------


def make(out, **more) -> subprocess.Popen:
    command = [sys.executable, SCRIPT, "--table", "uce:objects", "--out", out, "--cores", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.mark.slow
def test_a_table_is_made_and_a_run_that_was_killed_goes_on(tmp_path):
    out = tmp_path / "made"
    first = make(out, start_new_session=True)
    while not [*out.glob("train/*/step.json")] and first.poll() is None:
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    (trained,) = out.glob("train/*/step.json")
    edited = trained.stat().st_mtime_ns
    assert not [*out.glob("table/*/step.json")]

    second = make(out)
    said, errors = second.communicate()
    assert second.returncode == 0, errors
    assert trained.stat().st_mtime_ns == edited  # what was done stays
    result = results.read(out / "table" / "uce_objects" / "result.json")
    numbers = {entry.metric: (entry.ours.value, entry.before.value) for entry in result.entries}
    assert numbers["shown_erased"][0] <= 0.2 < 0.8 <= numbers["shown_erased"][1]
    assert numbers["shown_kept"][0] >= numbers["shown_kept"][1] - 0.1
    for name in ("report.html", "table.csv", "grid.png"):
        assert (out / "table" / "uce_objects" / name).stat().st_size > 500
    assert "erased" in said and str(out / "index.html") in said

    third = make(out)
    assert third.communicate()[0] == said and third.returncode == 0
    assert trained.stat().st_mtime_ns == edited
