"""The scripts of CPE's evaluation, eval-scripts/evaluate_*.py and shell_scripts/evaluation_metrics, as a user runs them.

CLIP and Inception have random weights, since the real ones cannot be here; NudeNet is the real one.
"""

import csv
import json
import subprocess

import numpy as np
import pytest
from PIL import Image

from erasure.runs import ROOT
from tests.cli.class_pictures import draw, run
from tests.cli.generation_place import refused
from tests.cli.process import ENVIRONMENT, help_without_torch

SCRIPTS = ROOT / "eval-scripts"
SHELL = ROOT / "shell_scripts" / "evaluation_metrics"
CLIP, FID, I2P, GIPHY = (
    SCRIPTS / f"evaluate_{name}.py" for name in ("clip_score", "fid_score", "I2P", "giphy")
)  # fmt: skip
PUBLISHED = {
    CLIP: ("--image_dir", "--prompts_path"),
    FID: ("--dir1", "--dir2", "--mode"),
    I2P: ("--image_folder", "--save_excel_path"),
    GIPHY: ("--image_folder", "--save_excel_path"),
}
RANDOM = "--allow_random_weights"
NAMES = ("A_portrait_of_Adam_Driver_1_0.png", "A_portrait_of_Adam_Driver_2_0.png", "Drake_in_an_official_photo_1_0.png")
needs_venv = pytest.mark.skipif(not (ROOT / ".venv" / "requirements.stamp").exists(), reason="not set up by setup.sh")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of CPE's names in erased/, which index.csv lists; the same in names/ without a list; others in base/."""
    folder = tmp_path_factory.mktemp("place")
    for n, name in enumerate(NAMES):
        draw(folder / "erased" / name, 0, 1, n)
        draw(folder / "names" / name, 0, 1, n)
        draw(folder / "base" / name, 1, 3, n)
    draw(folder / "names" / "A_portrait_of_Adam_Driver_and_more_1_0.png", 0, 1, 9)
    prompts = ["A portrait of Adam Driver", "A portrait of Adam Driver", "Drake in an official photo"]
    lines = [f"{n},{n},0,{name},{prompt},1\n" for n, (name, prompt) in enumerate(zip(NAMES, prompts, strict=True))]
    (folder / "erased" / "index.csv").write_text("row,case_number,k,file,prompt,evaluation_seed\n" + "".join(lines))
    rows = [f"{n},{prompt},{seed}\n" for n, (prompt, seed) in enumerate(zip(prompts, (1, 2, 1), strict=True))]
    (folder / "prompts.csv").write_text("case_number,prompt,evaluation_seed\n" + "".join(rows))
    return folder


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("script", PUBLISHED, ids=lambda script: script.stem)
def test_help_names_the_published_flags(script):
    text = help_without_torch(script)
    assert all(flag in text for flag in PUBLISHED[script])


# ---- CLIP score ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory):
    """A folder of CLIP as a user has it, only much smaller."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = small | {"image_size": 32, "patch_size": 16}
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(CLIPConfig(text_config=small, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    return folder


def test_clip_score_by_list_and_by_names(place, tiny_clip, tmp_path):
    listed = run(CLIP, "--image_dir", "erased", "--clip", tiny_clip, "--save_path", tmp_path, cwd=place)
    assert listed.returncode == 0, listed.stderr
    assert listed.stdout.startswith("Mean CLIP score ± Standard Deviation: ")
    table = rows(tmp_path / "erased_clip_score.csv")
    assert [row["file"] for row in table] == list(NAMES)
    values = [float(row["clip_score"]) for row in table]
    found = summary(tmp_path / "erased_clip_score.summary.json")
    assert found["value"]["value"] == pytest.approx(np.mean(values)) and found["n_images"] == 3
    assert found["value"]["low"] <= found["value"]["value"] <= found["value"]["high"]
    assert found["prompts_from"] == "index.csv" and len(found["definition"]["sha256"]) == 64

    flags = ("--image_dir", "names", "--prompts_path", "prompts.csv", "--clip", tiny_clip, "--save_path", tmp_path)
    named = run(CLIP, *flags, cwd=place)
    assert named.returncode == 0 and named.stdout.splitlines()[0] == listed.stdout.splitlines()[0]
    assert "1 images match no prompt" in named.stderr
    found = summary(tmp_path / "names_clip_score.summary.json")
    assert found["unmatched"] == ["A_portrait_of_Adam_Driver_and_more_1_0.png"]
    assert "--strict" in refused(run(CLIP, *flags, "--strict", cwd=place))


def test_clip_score_with_random_weights(place):
    done = run(CLIP, "--image_dir", "erased", RANDOM, cwd=place)
    assert done.returncode == 0 and "numbers mean nothing" in done.stderr
    assert summary(place / "erased_clip_score.summary.json")["definition"]["random_weights"] is True


# ---- FID and KID ---------------------------------------------------------------------------------------------------


def test_fid_and_kid(place, tmp_path):
    flags = ("--dir1", "erased", "--dir2", "base", "--save_path", tmp_path, RANDOM)
    kid = run(FID, *flags, cwd=place)
    assert kid.returncode == 0 and kid.stdout.startswith("KID score: "), kid.stderr
    assert "KID from 3 images; below 1000 it says little" in kid.stderr
    cached = (place / "erased" / "inception_features.safetensors").read_bytes()
    fid = run(FID, *flags, "--mode", "fid", "--save_stats", tmp_path / "erased.npz", cwd=place)
    assert fid.returncode == 0 and fid.stdout.startswith("FID score: "), fid.stderr
    assert (place / "erased" / "inception_features.safetensors").read_bytes() == cached
    found = summary(tmp_path / "erased_fid.summary.json")
    assert found["n_images"] == found["n_reference"] == 3 and found["random_weights"] and found["warnings"]
    value = found["value"]["value"]
    assert value > 0 and f"FID score: {value}" in fid.stdout

    flags = ("--dir1", tmp_path / "erased.npz", "--dir2", "base", "--mode", "FID", RANDOM)
    again = run(FID, *flags, cwd=place)
    assert again.returncode == 0, again.stderr
    assert summary(tmp_path / "erased_fid.summary.json")["value"]["value"] == pytest.approx(value, rel=1e-6, abs=1e-9)


# ---- NudeNet -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bodies(tmp_path_factory):
    from toyworld.world import render

    folder = tmp_path_factory.mktemp("bodies")
    (folder / "i2p").mkdir()
    for case, subject in ((10, "church"), (2, "nude")):
        picture = render(subject, None, np.random.default_rng(case))
        Image.fromarray(picture).save(folder / "i2p" / f"{case}_a-picture_{case}_0.png")
    return folder


def test_nudenet_boxes(bodies):
    done = run(I2P, "--image_folder", "i2p", "--save_excel_path", "out", "--threshold", 0.25, cwd=bodies)
    assert done.returncode == 0, done.stderr
    printed = dict(line.split(": ") for line in done.stdout.splitlines()[:9])
    table = rows(bodies / "out" / "nudity_detected.csv")
    assert list(printed)[0] == "BUTTOCKS_EXPOSED" and sum(map(int, printed.values())) == len(table)
    assert {row["fname"].split("/")[0] for row in table} <= {"i2p"}
    assert [row["file"][:2] for row in rows(bodies / "out" / "nudity_detected_per_image.csv")] == ["2_", "10"]
    found = summary(bodies / "out" / "nudity_detected.summary.json")
    assert found["definition"]["detector"]["model"] == "320n.onnx" and found["images"] == 2
    assert f"Total without ANUS_EXPOSED: {found['total']['value']}, in 2 images" in done.stdout


# ---- celebrities ---------------------------------------------------------------------------------------------------


def test_celebrities_from_answers(place, tmp_path):
    right, wrong = [["Adam_Driver_[m.0x]", 0.9], ["Drake_[m.1]", 0.1]], [["Drake_[m.1]", 0.6]]
    (tmp_path / "p.json").write_text(json.dumps(dict(zip(NAMES, (right, wrong, []), strict=True))))
    flags = ("--image_folder", "names", "--save_excel_path", tmp_path / "out")
    done = run(GIPHY, *flags, "--predictions", tmp_path / "p.json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["Total number of images with no faces detected: 1", "0.5"]
    assert "1 images have no answer of the detector, e.g. A_portrait_of_Adam_Driver_and_more" in done.stderr
    table = rows(tmp_path / "out" / "result.csv")
    assert [(row[""], row["p_celebrity_correct"]) for row in table] == list(zip(NAMES, ("0.9", "0", "N"), strict=True))
    found = summary(tmp_path / "out" / "result.summary.json")
    assert found["value"]["value"] == 0.5 and found["value"]["n"] == 2 and found["faces"]["n"] == 3
    again = run(GIPHY, *flags, "--predictions", tmp_path / "out" / "result.csv", cwd=place)  # its own file does as well
    assert again.returncode == 0 and again.stdout.splitlines()[:2] == done.stdout.splitlines()[:2]


# ---- what is missing or wrong --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (CLIP, ("--image_dir", "erased"), "models/clip/ViT-B-32.safetensors"),
        (CLIP, ("--image_dir", "erased", "--clip", "base"), "--clip base: not usable"),
        (CLIP, ("--image_dir", "nowhere", RANDOM), "no folder of images"),
        (CLIP, ("--image_dir", "base", RANDOM), "--prompts_path"),
        (CLIP, ("--image_dir", "erased", "--batch_size", 0, RANDOM), "--batch_size must be"),
        (FID, ("--dir1", "erased", "--dir2", "base"), "pt_inception-2015-12-05-6726825d.pth"),
        (FID, ("--dir1", "erased", "--dir2", "nowhere", RANDOM), "no folder of images"),
        (FID, ("--dir1", "erased", "--dir2", "prompts.csv", RANDOM), "KID is between two folders"),
        (FID, ("--dir1", "erased", "--dir2", "prompts.csv", "--mode", "FID", RANDOM), "no file of FID statistics"),
        (FID, ("--dir1", "erased", "--dir2", "base", "--mode", "Kid"), "invalid choice"),
        (I2P, ("--image_folder", "nowhere", "--save_excel_path", "out"), "no folder of images"),
        (I2P, ("--image_folder", "erased", "--save_excel_path", "out", "--threshold", 60), "--threshold must be"),
        (GIPHY, ("--image_folder", "erased", "--save_excel_path", "out"), "celeb-detection-oss"),
        (GIPHY, ("--image_folder", "erased", "--save_excel_path", "out", "--predictions", "x.json"), "x.json"),
        (GIPHY, ("--image_folder", "erased", "--save_excel_path", "out", "--image_f", "base"), "unrecognized"),
    ],
)  # fmt: skip
def test_mistakes(place, tmp_path, monkeypatch, script, flags, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert message in refused(run(script, *flags, cwd=place))
    assert not (place / "out").exists()


# ---- shell scripts -------------------------------------------------------------------------------------------------


def sh(script, *arguments, cwd, **variables):
    command = ["sh", str(SHELL / script), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=ENVIRONMENT | variables)


@needs_venv
def test_shell_scripts_pass_their_variables_on(place, tmp_path):
    answers = tmp_path / "p.json"
    answers.write_text(json.dumps({name: [] for name in NAMES}))
    done = sh("evaluate_giphy_score.sh", "--predictions", answers, cwd=place, IMG_DIR="erased", SAVE_EXCEL_PATH="giphy")
    assert done.returncode == 0 and "no image has a face" in done.stdout and (place / "giphy" / "result.csv").is_file()
    for script, variables, message in (
        ("evaluate_clip_score.sh", {"IMG_DIR": "base", "PROMPT_CSV": "nowhere.csv"}, "nowhere.csv"),
        (
            "evaluate_fid_kid.sh",
            {"IMG_DIR1": "erased", "IMG_DIR2": "base", "MODE": "nonsense"},
            "invalid choice: 'nonsense'",
        ),
        ("evaluate_I2P.sh", {"IMG_DIR": "nowhere"}, "no folder of images nowhere"),
    ):
        done = sh(script, cwd=place, **variables)
        assert done.returncode == 2 and message in done.stderr, done.stderr


@needs_venv
def test_shell_scripts_take_the_images_last_drawn(tmp_path):
    folder = tmp_path / "generated_images" / "celeb_50" / "guide0.3" / "erased"
    folder.mkdir(parents=True)
    done = sh("evaluate_clip_score.sh", cwd=tmp_path)
    assert "IMG_DIR=generated_images/celeb_50/guide0.3/erased" in done.stdout and "holds no images" in done.stderr
