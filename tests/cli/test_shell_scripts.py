"""The two commands of the README, as far as they can run inside a test, and set-up that finds everything done."""

import os
import subprocess

import pytest

from erasure import edits
from erasure.runs import ROOT
from tests.cli.process import ENVIRONMENT
from tests.tiny import save_tiny_config, tiny_model

SCRIPTS = ROOT / "shell_scripts"
needs_venv = pytest.mark.skipif(not (ROOT / ".venv" / "requirements.stamp").exists(), reason="not set up by setup.sh")


def sh(script, *arguments, cwd):
    return subprocess.run(["sh", str(SCRIPTS / script), *arguments], cwd=cwd, capture_output=True, text=True)


@needs_venv
def test_setup_is_quick_the_second_time(tmp_path):
    done = sh("setup.sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "setup: .venv is up to date"


@needs_venv
def test_quickstart_passes_its_arguments_on_from_any_directory(tmp_path):
    done = sh("quickstart.sh", "--concept", "nobody", cwd=tmp_path)
    assert done.returncode == 2 and "nobody" in done.stderr
    assert "--concept" in sh("quickstart.sh", "--help", cwd=tmp_path).stdout


@needs_venv
def test_test_runs_what_it_is_given(tmp_path):
    done = sh("test.sh", "tests/unit/test_intervals.py", "-q", "--collect-only", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_intervals.py" in done.stdout


def test_scripts_are_plain_posix_shell():
    for script in SCRIPTS.rglob("*.sh"):
        checked = subprocess.run(["sh", "-n", str(script)], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stderr
        assert script.read_text().startswith("#!/bin/sh\n"), script


@needs_venv
def test_ci_runs_the_tests(tmp_path):
    environment = {**os.environ, "WORKERS": "1"}
    command = ["bash", str(ROOT / ".ci" / "run"), "tests/unit/test_intervals.py", "-q", "--collect-only"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "test_intervals.py" in done.stdout, done.stdout + done.stderr


# ---- SepCE's, on a random model ------------------------------------------------------------------------------------

CLASSES = "index,prompt,aliases\n0,Van Gogh,\n1,Picasso,Pablo Picasso\n"
PROMPTS = ",prompt,evaluation_seed,case_number\n0,Van Gogh,1,0\n1,Van Gogh,2,1\n2,Picasso,3,50\n"


@pytest.fixture(scope="module")
def sepce(tmp_path_factory):
    """sepce(script, *arguments, **variables) runs a script of shell_scripts/sepce in a place that the scripts fill in turns."""
    place = tmp_path_factory.mktemp("sepce")
    edits.export_compvis(tiny_model(), place / "tiny.safetensors")
    save_tiny_config(place / "tiny.yaml")
    (place / "models").mkdir()
    (place / "classes.csv").write_text(CLASSES)
    (place / "prompts.csv").write_text(PROMPTS)
    common = {"BASE": "tiny.safetensors", "CONFIG": "tiny.yaml", "FAMILY": "toy", "ITERATIONS": "1", "DATA": "pictures"}
    common |= {"CLASSES": "classes.csv", "PROMPTS": "prompts.csv"}

    def call(script, *arguments, cwd=place, **variables):
        command = ["sh", str(SCRIPTS / "sepce" / script), *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT | common | variables)

    call.place = place
    for script, flags in (
        ("data.sh", ["--ddim_steps", "2", "--image_size", "32"]), ("classifier.sh", ["--workers", "0"])
    ):  # fmt: skip
        done = call(script, *flags, NUM_IMAGES="3", EPOCHS="1", MODEL_PATH="classifier")
        assert done.returncode == 0, done.stderr
    return call


SMALL = ("--image_size", "32", "--seed", "1")


@needs_venv
def test_sepce_data_and_classifier(sepce):
    pictures = sepce.place / "pictures"
    assert sorted(f.name for f in (pictures / "Picasso").iterdir()) == ["0_0.png", "1_0.png", "2_0.png"]
    assert [len(list((pictures / side / "0").iterdir())) for side in ("train", "eval")] == [2, 1]
    assert (sepce.place / "classifier" / "artis_model_10.pth").is_file()
    assert (pictures / "eval_artist_cls.csv").is_file()


@needs_venv
def test_sepce_style_erases_restores_and_measures(sepce):
    variables = {"CONCEPTS": "Van Gogh,Picasso", "NAME": "two", "RESTORE": "picasso", "PER_CLASS": "1"}
    done = sepce("style.sh", *SMALL, "--min_iter", "0", CLASSIFIER="classifier/artis_model_10.pth", **variables)
    assert done.returncode == 0, done.stderr
    read = {name: edits.read(sepce.place / "models" / name / "edit.safetensors") for name in ("two", "two-restored")}
    assert {name: edit.concepts for name, edit in read.items()} == {
        "two": ["Van Gogh", "Picasso"], "two-restored": ["Van Gogh"]
    }  # fmt: skip
    found = sepce.place / "evaluation_folder"
    for name in ("default", *read):
        assert sorted(f.name for f in (found / name).glob("*.png")) == ["0_0.png", "50_0.png"]
        assert [len(list((found / "sorted" / name / number).iterdir())) for number in "01"] == [1, 1]
        assert (found / f"{name}_artist_cls.csv").is_file()
    assert "LPIPS is left out" in done.stderr


@needs_venv
def test_sepce_baselines(sepce):
    done = sepce("baselines.sh", "--seed", "1", "--image_size", "64", CONCEPT="Van Gogh", METHODS="FMN,Esd")
    assert done.returncode == 0, done.stderr
    names = {f.parent.name for f in (sepce.place / "models").glob("*/edit.safetensors")}
    assert {"FMN-Van Gogh-iter_1", "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1-lr_0.0001"} <= names


@needs_venv
def test_sepce_scenes(sepce, tmp_path):
    few = ("--min_iter", "0", "--num_images", "2")
    done = sepce("scenes.sh", *SMALL, *few, SCENE="7", EVENTS="+1,2 -1", WATERMARKS="9")
    assert done.returncode == 0, done.stderr
    read = [edits.read(sepce.place / "models" / f"SRS-ME-style-scene7-time{t}" / "edit.safetensors") for t in (0, 1)]
    assert [edit.concepts for edit in read] == [["VanGogh", "Picasso"], ["Picasso"]]
    hidden = [part.protected for part in edits.parts_of(read[0])]
    assert hidden == [("", "Picasso", "watermark SRS-ME"), ("", "VanGogh", "watermark SRS-ME")]
    for variables, message in (({"SCENE": "7"}, "1 to 4"), ({"EVENTS": "*0"}, "is no event")):
        done = sepce("scenes.sh", cwd=tmp_path, **variables)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
