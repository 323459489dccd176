"""reproduce/run.py: lists the papers' tables, and what it takes to make them."""

import pytest

from erasure.errors import UserError
from erasure.runs import ROOT
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
    assert int(total[-2]) == len([line for line in lines if line.split()[0] in ("train", "images", "measure")])


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
        (["--table", "rece:nudity"], "only be listed yet: add --dry-run"),
        (["--table", "rece:nud", "--dry-run"], "no table 'rece:nud'; did you mean rece:nudity"),
        (["--table", "rece:nudity", "--dry-run", "--tflops", "0"], "--tflops must be above 0"),
        (["--list", "nobody"], "no paper 'nobody'; there are cpe, esd"),
    ],
)
def test_mistakes(arguments, what):
    with pytest.raises(UserError, match=what):
        load(SCRIPT).main(arguments)


def test_without_a_dry_run_it_ends_in_one_line(tmp_path):
    done = run(SCRIPT, "--table", "rece:nudity", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("error: tables can only be listed yet")
    assert done.stderr.count("\n") == 1
