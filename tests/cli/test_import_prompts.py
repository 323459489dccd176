"""data/import_prompts.py: lists, checks and brings in the prompt sets that others wrote."""

import hashlib

import pytest

from erasure import prompt_sets
from erasure.errors import UserError
from erasure.runs import ROOT
from tests.cli.process import help_without_torch, load, run

SCRIPT = ROOT / "data" / "import_prompts.py"
SOURCES = prompt_sets.sources()


def test_help_needs_no_torch():
    assert "--accept_changed" in help_without_torch(SCRIPT)


def test_lists_all_sets(capsys, tmp_path):
    load(SCRIPT).main(["--list", "--root", str(tmp_path)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SOURCES)
    assert all("absent" in line for line in lines)


def test_tells_of_a_set(capsys):
    load(SCRIPT).main(["coco_30k_val", "--list"])
    told = capsys.readouterr().out
    for word in (SOURCES["coco_30k_val"]["sha256"], "or import coco_30k_case", "3000 rows", "CC BY 4.0"):
        assert word in told


@pytest.mark.parametrize("flags", [(), ("--link",)])
def test_brings_in_and_checks(tmp_path, capsys, monkeypatch, flags):
    file = tmp_path / "doctor.csv"
    lines = (f"{n},made up {n},{n},doctor" for n in range(10))
    file.write_text("\n".join(["case_number,prompt,evaluation_seed,profession", *lines, ""]))
    script, arguments = load(SCRIPT), ["doctor_prompts", str(file), "--root", str(tmp_path), *flags]
    with pytest.raises(UserError, match="--accept_changed takes it all the same"):
        script.main(arguments)
    script.main([*arguments, "--accept_changed"])
    assert "not the published file byte for byte" in capsys.readouterr().out
    assert (tmp_path / "data" / "prompts" / "doctor_prompts.csv").read_text() == file.read_text()
    check = ["doctor_prompts", "--check", "--root", str(tmp_path)]
    assert script.main(check) == 1 and "changed" in capsys.readouterr().out
    monkeypatch.setitem(SOURCES["doctor_prompts"], "sha256", hashlib.sha256(file.read_bytes()).hexdigest())
    assert script.main(check) == 0 and "as published" in capsys.readouterr().out
    assert script.main(["--check", "--root", str(tmp_path)]) == 0
    assert script.main(["i2p", "--check", "--root", str(tmp_path)]) == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "name a set"),
        (["i2p"], "name a set"),
        (["nope", "x.csv"], "no prompt set 'nope'; there are i2p,"),
        (["i2p", "nowhere.csv"], "nowhere.csv: no such file"),
        (["coco_30k_image_id", "x.csv", "--link"], "rewritten on the way"),
    ],
)
def test_mistakes(arguments, what):
    with pytest.raises(UserError, match=what):
        load(SCRIPT).main(arguments)


def test_ends_in_one_line(tmp_path):
    done = run(SCRIPT, "i2p", "nowhere.csv", cwd=tmp_path)
    assert done.returncode == 2 and done.stderr == "error: nowhere.csv: no such file\n"


def test_generation_names_the_set_that_it_misses(tmp_path):
    script = ROOT / "eval-scripts" / "generate-images.py"
    done = run(script, "--prompts_path", "data/coco_10k.csv", "--save_path", "images", cwd=tmp_path)
    assert done.returncode == 2
    for word in ("import_prompts.py coco_10k FILE", "OPTML-Group/AdvUnlearn", SOURCES["coco_10k"]["sha256"]):
        assert word in done.stderr


def test_generation_draws_a_set_where_it_was_imported(tmp_path):
    """Under the name that it has in a published command; RECE's preset keeps a copy of the prompts."""
    brought = tmp_path / SOURCES["doctor_prompts"]["file"]
    brought.parent.mkdir(parents=True)
    brought.write_text("case_number,prompt,evaluation_seed,profession\n3,a photo of a person,5,doctor\n")
    script, flags = ROOT / "eval-scripts" / "generate-images.py", ["--preset", "rece", "--noise_device", "cpu"]
    flags += ["--model_name", "toy", "--ddim_steps", "2", "--concept", "x", "--save_path", "images"]
    done = run(script, "--prompts_path", "data/doctor_prompts.csv", *flags, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the imported doctor_prompts is used" in done.stdout
    assert (tmp_path / "images" / "x" / "imgs" / "3_0.png").is_file()
    assert (tmp_path / "images" / "x" / "prompts.csv").read_bytes() == brought.read_bytes()
