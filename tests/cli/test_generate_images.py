"""generate-images.py as a user calls it: models by every name, killed runs, and mistakes."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from erasure.generation.models import pick_device
from tests.cli import generation_place as place_
from tests.cli import process
from tests.cli.generation_place import BASE, files, pictures, refused

SCRIPT = "generate-images.py"
QUICK = ("--prompts_path", "prompts.csv", "--ddim_steps", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    place_.fill(folder)
    return folder


def run(*arguments, cwd):
    return place_.run(SCRIPT, *arguments, cwd=cwd)


def pixels(path):
    return np.asarray(Image.open(path))


# ---- killed runs ---------------------------------------------------------------------------------------------------


def start(*arguments, cwd):
    return process.start(*place_.command(SCRIPT, *arguments)[1:], cwd=cwd)


def kill_when(count: int, folder, *arguments, cwd) -> int:
    """Start the script and kill -9 it as soon as `count` images are there; returns how many it left."""
    killed = start(*arguments, cwd=cwd)
    while killed.poll() is None and len(list(folder.glob("[0-9]*.png"))) < count:
        time.sleep(0.002)
    killed.kill()
    killed.wait()
    assert killed.returncode == -signal.SIGKILL, "it ended before it could be killed"
    return len(list(folder.glob("[0-9]*.png")))


def test_kill_and_rerun_give_the_same_files(place):
    """Byte for byte, manifest included, with images of a row in different batches and batches cut in two."""
    flags = (*BASE, *QUICK, "--model_name", "original", "--num_samples", 3, "--batch_size", 5, "--till_case", 7)
    undisturbed = start(*flags, "--save_path", "undisturbed", cwd=place)
    folder = place / "killed" / "original"
    left = [kill_when(count, folder, *flags, "--save_path", "killed", cwd=place) for count in (2, 13)]
    assert 2 <= left[0] < 24 and 13 <= left[1] < 24
    finished = start(*flags, "--save_path", "killed", cwd=place)
    assert f"{24 - left[1]} images made, {left[1]} kept" in finished.communicate()[0]
    undisturbed.communicate()
    assert undisturbed.returncode == finished.returncode == 0
    assert files(place / "killed") == files(place / "undisturbed")


# ---- models --------------------------------------------------------------------------------------------------------


def test_an_edit_by_every_name(place):
    """A run by its published names and by its path, and the same weights as a whole UNet in diffusers' naming."""
    names = {
        "compvis-run": ("--model_name", "compvis-run"),
        "diffusers-run": ("--model_name", "diffusers-run"),
        "diffusers-whole": ("--model_name", "diffusers-whole.pt"),
        "edited": ("--model_name", "original", "--edit", "models/compvis-run", "--exp_name", "edited"),
    }
    for label, flags in names.items():
        given = BASE if label != "compvis-run" else ()  # an edit names its base itself
        result = run(*QUICK, *given, *flags, "--save_path", "named", "--till_case", 1, cwd=place)
        assert result.returncode == 0, result.stderr
        assert set(pictures(place / "named" / label)) == {"0_0.png", "1_0.png"}
    shown = [pixels(place / "named" / label / "0_0.png").astype(int) for label in names]
    assert all(np.abs(other - shown[0]).max() <= 1 for other in shown[1:])
    run(*QUICK, *BASE, "--model_name", "original", "--save_path", "named", "--till_case", 0, cwd=place)
    assert np.abs(pixels(place / "named" / "original" / "0_0.png") - shown[0]).max() > 1
    manifest = json.loads((place / "named" / "compvis-run" / "manifest.json").read_text())
    assert manifest["model"]["edits"][0]["concepts"] == ["a photo"]


def test_output_says_what_is_drawn(place):
    flags = ("--preset", "uce", "--guidance_scale", "3", "--from_case", 3, "--till_case", 4, "--num_samples", 2)
    result = run(*QUICK, *BASE, "--model_name", "original", "--save_path", "said", *flags, cwd=place)
    assert result.returncode == 0, result.stderr
    settings = dict(line.split(maxsplit=1) for line in result.stdout.splitlines() if line.startswith("  ") and len(line.split()) > 1)  # fmt: skip
    assert (settings["preset"], settings["sampler"], settings["steps"], settings["guidance"]) == ("uce", "lms", "2", "3.0")  # fmt: skip
    assert result.stdout.startswith("base model: base (")
    assert "images/s" in result.stderr
    assert set(pictures(place / "said" / "original")) == {"3_0.png", "3_1.png", "4_0.png", "4_1.png"}
    manifest = json.loads((place / "said" / "original" / "manifest.json").read_text())
    assert (manifest["settings"]["preset"], manifest["settings"]["guidance"]) == ("uce", 3.0)


def test_rece_has_its_own_folders(place):
    flags = ("--preset", "rece", "--concept", "nudity", "--device", "cuda:0", "--df_start", 1, "--df_length", 1)
    result = run(*QUICK, *BASE, "--model_name", "original", "--save_path", "rece", *flags, cwd=place)
    assert result.returncode == 0, result.stderr
    assert set(pictures(place / "rece" / "nudity" / "imgs")) == {"1_0.png"}
    assert (place / "rece" / "nudity" / "prompts.csv").read_text() == place_.CSV
    assert "no GPU here" in result.stderr and "drawn on the cpu" in result.stderr


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_name", "compvis-typo"), "no model 'compvis-typo'"),  # published: the base was drawn
        (("--model_name", "SD-V2"), "Stable Diffusion 2"),
        (("--model_name", "original", "--edit", "nothing.pt"), "no model 'nothing.pt'"),
        (("--model_name", "original", "--base", "nowhere.ckpt"), "no model at nowhere.ckpt"),
        (("--model_name", "toy", *BASE), "two different models"),
        (("--model_name", "compvis-run", "--base", "toy"), "was made for base"),
        (("--model_name", "original", *BASE, "--ddim_steps", "0"), "steps must be at least 1"),
        (("--model_name", "original", *BASE, "--image_size", "50"), "multiples of 16"),
        (("--model_name", "original", *BASE, "--sampler", "euler"), "--sampler"),
        (("--model_name", "original", *BASE, "--sampler", "plms", "--eta", "1"), "deterministic"),
        (("--model_name", "original", *BASE, "--noise_device", "cuda"), "GPU"),
        (("--model_name", "original", *BASE, "--device", "tpu"), "--device 'tpu'"),
        (("--model_name", "original", *BASE, "--from_case", "99"), "none of its rows"),
        (("--model_name", "original", *BASE, "--concept", "x"), "--concept"),
        (("--model_name", "original", *BASE, "--num_sample", "2"), "unrecognized arguments"),
        (("--model_name", "original", *BASE, "--exp_name", "../x"), "cannot name a folder"),
        ((), "--model_name"),
    ],
)
def test_mistakes_end_in_one_line(place, flags, message):
    line = refused(run(*QUICK, *flags, "--save_path", "mistakes", cwd=place))
    assert message in line
    assert not (place / "mistakes").exists()


def test_a_bad_csv_is_named_by_row_and_column(place):
    (place / "bad.csv").write_text("case_number,prompt,evaluation_seed\n0,a,1\n1,b,one\n")
    flags = (*BASE, "--model_name", "original", "--save_path", "mistakes", "--prompts_path")
    line = refused(run(*flags, "bad.csv", cwd=place))
    assert all(part in line for part in ("bad.csv", "row 2", "column evaluation_seed", "'one'"))
    assert "no such file" in refused(run(*flags, "none.csv", cwd=place))


def test_help_does_not_import_torch():
    code = "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['x', '--help']; runpy.run_path({!r}, run_name='__main__')"
    script = place_.command(SCRIPT)[1]
    result = subprocess.run([sys.executable, "-c", code.format(script)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for flag in ("model_name", "prompts_path", "save_path", "num_samples", "from_case", "till_case", "ddim_steps"):
        assert f"--{flag}" in result.stdout


@pytest.mark.parametrize("text", ["cuda:0", "cuda", "7", "cuda:4"])
def test_published_devices_fall_back_to_the_cpu(text, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert pick_device(text) == "cpu" and text in capsys.readouterr().err
    assert pick_device(None) == pick_device("cpu") == "cpu" and not capsys.readouterr().err


def test_devices_that_are_there(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [pick_device(text) for text in ("cuda:1", "1", "cuda", None, "cpu")] == ["cuda:1", "cuda:1", "cuda:0", "cuda:0", "cpu"]  # fmt: skip
    assert not capsys.readouterr().err
    assert pick_device("cuda:4") == "cuda:0" and "no GPU 4" in capsys.readouterr().err
