"""The metric scripts of ESD, UCE and RECE as a user runs them: published flags and files, with random weights where the real ones cannot be here."""

import csv
import json
import pickle

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
    "styleloss": ("--original_path", "--edited_path", "--promtps_path", "--csv_path", "--save_path", "--image"),
    "mae_eval": ("--original_path", "--edited_path", "--prompts_path", "--csv_path", "--save_path"),
    "evaluate_clip_accuracy": ("--base_folder", "--save_path"),
    "q16_eval": ("--path",),
    "CLIP_classify": ("--im_path", "--attributes", "--prompts_path", "--save_path", "--from_case", "--till_case"),
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


def test_styleloss(place):
    flags = ("--original_path", "before", "--edited_path", "after", "--imsize", 32, RANDOM)
    done = run(script("styleloss"), *flags, "--promtps_path", "prompts.csv", cwd=place)
    assert done.returncode == 0, done.stderr
    table = rows(place / "after_styleloss.csv")
    assert [row["style_loss"] != "" for row in table] == [True, True, False]
    pairs = rows(place / "after_styleloss_per_image.csv")
    assert [pair["case_number"] for pair in pairs] == ["10", "10", "2"]
    for pair in pairs:
        total = 1e6 * float(pair["style_loss"]) + float(pair["content_loss"])
        assert float(pair["total_loss"]) == pytest.approx(total) and total > 0
    found = summary(place / "after_styleloss.summary.json")
    assert found["value"]["value"] == pytest.approx(np.mean([float(pair["total_loss"]) for pair in pairs]))
    single = ("--image", "--original_path", "before/2_0.png", "--edited_path", "after/2_0.png", "--imsize", 32, RANDOM)
    done = run(script("styleloss"), *single, "--save_path", "single", cwd=place)
    assert done.returncode == 0, done.stderr
    (row,) = rows(place / "single" / "2_0_styleloss.csv")
    assert float(row["Total_Loss"]) == pytest.approx(float(pairs[2]["total_loss"]), rel=1e-5)


def test_mae(place):
    flags = ("--original_path", "before", "--edited_path", "after", "--save_path", "mae")
    done = run(script("mae_eval"), *flags, "--csv_path", "prompts.csv", cwd=place)
    assert done.returncode == 0, done.stderr
    pixels = [[np.asarray(Image.open(place / side / name), float) for side in ("before", "after")] for name in ("10_0.png", "10_1.png", "2_0.png")]  # fmt: skip
    expected = [np.abs(one - other).mean() for one, other in pixels]
    pairs = rows(place / "mae" / "after_maeloss_per_image.csv")
    assert [float(pair["mae"]) for pair in pairs] == pytest.approx(expected) and min(expected) > 1
    losses = [row["mae_loss"] for row in rows(place / "mae" / "after_maeloss.csv")]
    assert losses[2] == "" and [float(loss) for loss in losses[:2]] == pytest.approx(
        [np.mean(expected[:2]), expected[2]]
    )
    found = summary(place / "mae" / "after_maeloss.summary.json")
    assert found["value"]["value"] == pytest.approx(np.mean(expected)) and "0 to 255" in found["metric"]
    assert f"mean absolute pixel error {np.mean(expected):.4f}, mean of 3 pairs" in done.stdout


def test_clip_accuracy(place):
    for n in range(2):
        draw(place / "objects" / "cat_paraphrases" / f"{n}_0.png", n, 2, n)
        draw(place / "objects" / "others" / f"{n}_0.png", n, 2, n)
    done = run(script("evaluate_clip_accuracy"), "--base_folder", "objects", "--save_path", "acc", RANDOM, cwd=place)
    assert done.returncode == 0, done.stderr
    table = rows(place / "acc" / "objects_cat_paraphrases.csv")
    assert list(table[0])[:3] == ["ImageName", "airplane", "automobile"] and len(table[0]) == 11
    assert sum(float(p) for name, p in table[0].items() if name != "ImageName") == pytest.approx(1)
    found = summary(place / "acc" / "clip_accuracy.summary.json")["per_group"]
    mean = np.mean([float(row["cat"]) for row in table])
    assert found["objects/cat_paraphrases"]["mean_probability"]["value"] == pytest.approx(mean)
    assert found["objects/others"] is None and (place / "acc" / "objects_others.csv").is_file()


def test_clip_classify(place):
    flags = ("--im_path", "after", "--prompts_path", "prompts.csv", "--from_case", 5, RANDOM)
    done = run(script("CLIP_classify"), *flags, cwd=place)
    assert done.returncode == 0 and "1 rows have no picture, e.g. case 9" in done.stderr, done.stderr
    table = rows(place / "after_gender_classify.csv")
    assert [row["a_man_bias"] != "" for row in table] == [True, False, False]  # case 2 is not asked for
    assert float(table[0]["a_man_bias"]) + float(table[0]["a_woman_bias"]) == 1
    found = summary(place / "after_gender_classify.summary.json")
    assert found["value"]["value"] == pytest.approx(abs(float(table[0]["a_man_bias"]) - 0.5) * 2)
    assert len(rows(place / "after_gender_classify_per_image.csv")) == found["n_images"] == 2


def test_q16(place):
    (place / "after" / "prompts.csv").write_text('case_number,prompt,categories\n10,a,"hate, sexual"\n2,b,hate\n')
    with open(place / "learned.p", "wb") as file:
        pickle.dump(np.random.default_rng(0).normal(size=(2, 768)).astype(np.float16), file)
    done = run(script("q16_eval"), "--path", "after", "--prompt_weights", "learned.p", RANDOM, cwd=place)
    assert done.returncode == 0, done.stderr
    out = place / "after" / "inappropriate" / "ViT-L-14" / "sim_prompt_tuned_data"
    lines = (out / "rates.txt").read_text().splitlines()
    assert lines[0].startswith("overall_detect_rate: ") and "violence: None" in lines and len(lines) == 8
    found = summary(out / "q16.summary.json")
    assert found["per_group"]["hate"]["n"] == 3 and found["per_group"]["sexual"]["n"] == 2
    assert len(found["definition"]["learned"]["sha256"]) == 64 and found["definition"]["random_weights"]
    labels = [line.split(",") for line in (out / "inappropriate_images.csv").read_text().splitlines()]
    assert [cells[3] for cells in labels] == ["2_0.png", "10_0.png", "10_1.png"]
    assert found["value"]["value"] == pytest.approx(sum(int(cells[1]) for cells in labels) / 3)


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("imageclassify", ("--folder_path", "after", "--prompts_path", "prompts.csv"), "resnet50-11ad3fa6.pth (torchvision's IMAGENET1K_V2, sha256 11ad3fa6...)"),
        ("imageclassify", ("--folder_path", "after", "--prompts_path", "prompts.csv", "--topk", 0), "--topk must be"),
        ("imageclassify", ("--folder_path", "after", "--prompts_path", "prompts.csv", "--target_class", "dog"), "no row"),
        ("nudenet-classes", ("--folder", "after"), "unsafe-prompts4703.csv"),
        ("nudenet-classes", ("--folder", "after", "--csv_path", "prompts.csv", "--threshold", 60), "--threshold must be"),
        ("clip_score", ("--folder_path", "before"), "before/prompts.csv"),
        ("clip_score", ("--folder_path", "after", "--prompts_path", "prompts.csv", "--model_version", "large"), "models/clip/ViT-L-14.safetensors"),
        ("fid_score", ("--f1", "after", "--f2", "nowhere"), "no folder of images"),
        ("lpips_score", ("-d0", "before", "-d1", "after", "--filter", "zzz"), "in common (of those asked for)"),
        ("lpips_score", ("-d0", "before", "-d1", "after", "-v", "0.0"), "invalid choice"),
        ("styleloss", ("--original_path", "before", "--edited_path", "after"), "--promtps_path is missing"),
        ("styleloss", ("--original_path", "before", "--edited_path", "after", "--image"), "no picture before"),
        ("styleloss", ("--original_path", "before", "--edited_path", "after", "--csv_path", "prompts.csv"), "vgg19-dcbb9e9d.pth"),
        ("mae_eval", ("--original_path", "before", "--edited_path", "after"), "--prompts_path is missing"),
        ("mae_eval", ("--original_path", "before", "--edited_path", "nowhere", "--csv_path", "prompts.csv"), "no folder nowhere"),
        ("evaluate_clip_accuracy", ("--base_folder", "nowhere", "--save_path", "out"), "no folder nowhere"),
        ("evaluate_clip_accuracy", ("--base_folder", "after", "--save_path", "out", "--objects", "cat"), "at least two"),
        ("CLIP_classify", ("--im_path", "after", "--prompts_path", "prompts.csv", "--attributes", "a man"), "at least two"),
        ("CLIP_classify", ("--im_path", "after", "--prompts_path", "prompts.csv", "--from_case", 99), "holds no picture"),
        ("q16_eval", ("--path", "after"), "models/clip/ViT-L-14.safetensors"),
        ("q16_eval", ("--path", "after", RANDOM, "--prompt_weights", "prompts.csv"), "prompts.csv"),
    ],
)  # fmt: skip
def test_mistakes(place, tmp_path, monkeypatch, name, flags, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert message in refused(run(script(name), *flags, cwd=place))
