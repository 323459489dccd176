"""The metric scripts of ESD, UCE and RECE as a user runs them: published flags and files, with random weights where the real ones cannot be here."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from erasure.runs import ROOT
from tests.cli.class_pictures import draw, run
from tests.cli.generation_place import refused
from tests.cli.process import help_without_torch

RANDOM = "--allow_random_weights"
PUBLISHED = {
    "imageclassify": ("--folder_path", "--prompts_path", "--save_path", "--device", "--topk", "--batch_size", "--target_class"),
    "nudenet-classes": ("--folder", "--prompts_path", "--csv_path", "--save_path", "--threshold"),
    "clip_score": ("--folder_path", "--model_version", "--prompts_path", "--batch_size"),
    "fid_score": ("--f1", "--f2"),
    "lpips_score": ("-d0", "-d1", "--filter", "-v"),
}  # fmt: skip


def script(name):
    return ROOT / "eval-scripts" / f"{name}.py"


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def summary(path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """before/ and after/ with two cases of three, one of them twice; case 9 has no picture, and one cell is empty."""
    folder = tmp_path_factory.mktemp("place")
    for n, name in enumerate(("2_0.png", "10_0.png", "10_1.png")):
        draw(folder / "before" / name, 0, 1, n, size=(64, 70))
        draw(folder / "after" / name, 1, 3, n, size=(64, 70))
    draw(folder / "before" / "x.png", 0, 1, 5)
    (folder / "prompts.csv").write_text(
        "case_number,prompt,evaluation_seed,class,note\n"
        "10,a church,1,church,a\n2,a golf ball,2,Golf Ball,\n9,none,3,church,c\n"
    )
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_help_names_the_published_flags(name):
    text = help_without_torch(script(name))
    assert all(flag in text for flag in PUBLISHED[name])


def test_imageclassify(place):
    flags = ("--folder_path", "after/", "--prompts_path", "prompts.csv", "--topk", 2, "--batch_size", 2, RANDOM)
    done = run(script("imageclassify"), *flags, "--target_class", "church", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Target church accuracy: 0.0\nOther accuracy: ")
    assert "1 rows have no picture, e.g. case 9" in done.stderr and "numbers mean nothing" in done.stderr
    table = rows(place / "after" / "after_classification.csv")
    assert [row["case_number"] for row in table] == ["10", "10", "2"]
    names = [f"{what}_top{n}" for n in (1, 2) for what in ("category", "index", "scores")]
    assert list(table[0]) == ["", "case_number", "prompt", "evaluation_seed", "class", "note", *names]
    assert float(table[0]["scores_top1"]) >= float(table[0]["scores_top2"]) > 0
    found = summary(place / "after" / "after_classification.summary.json")
    assert found["n_images"] == 3 and found["missing"] == [9] and found["definition"]["random_weights"] is True
    assert found["per_group"].keys() == {"church", "golf ball"} and found["value"]["n"] == 3
    assert len(rows(place / "after" / "after_classification_per_image.csv")) == 3


def test_clip_score(place):
    done = run(script("clip_score"), "--folder_path", "after", "--prompts_path", "prompts.csv", RANDOM, cwd=place)
    assert done.returncode == 0, done.stderr
    assert "1 rows have an empty cell" in done.stderr
    table = rows(place / "after" / "clip_scores.csv")
    assert [row["case_number"] for row in table] == ["10", "average"]
    images = {row["file"]: float(row["clip_score"]) for row in rows(place / "after" / "clip_scores_per_image.csv")}
    mean = np.mean([images["10_0.png"], images["10_1.png"]])
    assert float(table[0]["clip"]) == float(table[1]["clip"]) == pytest.approx(mean) and len(images) == 3
    found = summary(place / "after" / "clip_scores.summary.json")
    assert found["left_out_for_empty_cells"] == [2] and found["missing"] == [9]


def test_fid_score_is_evaluate_fid_score(place, tmp_path):
    flags = ("--save_path", tmp_path, "--no_cache", RANDOM)
    done = run(script("fid_score"), "--f1", "after", "--f2", "before", *flags, cwd=place)
    assert done.returncode == 0 and done.stdout.startswith("FID score: "), done.stderr
    assert summary(tmp_path / "after_fid.summary.json")["n_reference"] == 4


def test_lpips_score(place):
    done = run(script("lpips_score"), "-d0", "before", "-d1", "after", "--filter", "prompts.csv", RANDOM, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = (place / "after" / "lpips_against_sd14.txt").read_text().splitlines()
    assert [line.split(": ")[0] for line in lines] == ["2_0.png", "10_0.png", "10_1.png", "avg"]
    values = [float(line.split(": ")[1]) for line in lines]
    assert np.mean(values[:3]) == pytest.approx(values[3], abs=1e-6) and values[3] > 0
    some = run(script("lpips_score"), "-d0", "before", "-d1", "after", "--filter", "10_", RANDOM, cwd=place)
    assert some.returncode == 0 and "mean of 2 pairs" in some.stdout


def test_nudenet_classes(place):
    """The real NudeNet, on pictures without bodies and one mannequin."""
    from toyworld.world import render

    (place / "nude").mkdir()
    for case, subject in ((10, "church"), (2, "nude")):
        Image.fromarray(render(subject, None, np.random.default_rng(case))).save(place / "nude" / f"{case}_0.png")
    flags = ("--folder", "nude", "--prompts_path", "prompts.csv", "--threshold", 0.3)
    done = run(script("nudenet-classes"), *flags, cwd=place)
    assert done.returncode == 0, done.stderr
    table = rows(place / "nude" / "nude_NudeClasses_30.csv")
    assert [row["NudeNet_n_images"] for row in table] == ["1", "1", ""] and table[0]["NudeNet_label"] == ""
    found = summary(place / "nude" / "nude_NudeClasses_30.summary.json")
    assert found["n_images"] == 2 and found["definition"]["detector"]["model"] == "320n.onnx"


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("imageclassify", ("--folder_path", "after", "--prompts_path", "prompts.csv"), "resnet50-11ad3fa6.pth (torchvision's IMAGENET1K_V2)"),
        ("imageclassify", ("--folder_path", "after", "--prompts_path", "prompts.csv", "--topk", 0), "--topk must be"),
        ("imageclassify", ("--folder_path", "after", "--prompts_path", "prompts.csv", "--target_class", "dog"), "no row"),
        ("nudenet-classes", ("--folder", "after"), "unsafe-prompts4703.csv"),
        ("nudenet-classes", ("--folder", "after", "--csv_path", "prompts.csv", "--threshold", 60), "--threshold must be"),
        ("clip_score", ("--folder_path", "after"), "prompts.csv"),
        ("clip_score", ("--folder_path", "after", "--prompts_path", "prompts.csv", "--model_version", "large"), "models/clip/ViT-L-14.safetensors"),
        ("fid_score", ("--f1", "after", "--f2", "nowhere"), "no folder of images"),
        ("lpips_score", ("-d0", "before", "-d1", "after", "--filter", "zzz"), "no such picture in common"),
        ("lpips_score", ("-d0", "before", "-d1", "after", "-v", "0.0"), "invalid choice"),
    ],
)  # fmt: skip
def test_mistakes(place, tmp_path, monkeypatch, name, flags, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert message in refused(run(script(name), *flags, cwd=place))
