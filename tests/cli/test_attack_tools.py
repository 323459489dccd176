"""style_analysis.py, detect_nudity.py and collect_prompts.py as a user runs them, on logs and pictures of both programs' kinds."""

import csv
import json

import pytest
from PIL import Image

from erasure.prompts import read_csv
from erasure.runs import ROOT, write_csv, write_json
from tests.cli import process
from tests.cli.class_pictures import run
from tests.cli.generation_place import refused

STYLE, NUDITY, COLLECT = (
    ROOT / "eval-scripts" / f"{name}.py" for name in ("style_analysis", "detect_nudity", "collect_prompts")
)


def entry(success=False, **more):
    return {"relative_time": "0:01:00", "success": success, **more}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(path, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), colour).save(path)


# ---- styles --------------------------------------------------------------------------------------------------------


def ranked(*names):
    return [{"label": name, "score": 0.5 / (i + 1)} for i, name in enumerate(names)]


@pytest.fixture
def styles(tmp_path):
    """Published logs: one shows the artist unchanged, two after the attack (first and third of its names), one never."""
    logs = {
        0: [ranked("vincent-van-gogh", "a"), ranked("b")],
        1: [ranked("a", "b"), ranked("b"), ranked("vincent-van-gogh")],
        2: [ranked("a"), ranked("a", "b", "Vincent_van_Gogh")],
        10: [ranked("a"), ranked("b")],
    }
    for i, log in logs.items():
        folder = tmp_path / "runs" / f"attack_idx_{i}"
        write_json(folder / "log.json", [entry(style=one) for one in log])
        for place, name in zip(range(len(log)), ("orig.png", "10.png", "190.png"), strict=False):
            picture(folder / "images" / name, (i, place, 0))
    return tmp_path


def test_rates_of_styles(styles):
    done = run(STYLE, "--root", "runs", cwd=styles)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["pre-ASR: 1 / 4 = 0.25", "ASR: 3 / 4 = 0.75"]
    assert "top 1: pre-ASR 25 % [5, 70], ASR 50 % [15, 85]" in done.stdout
    found = read(styles / "runs" / "style_analysis_topk_10.summary.json")
    assert found["n"] == found["asr"]["n"] == 4 and found["asr"]["low"] < 0.75 < found["asr"]["high"]
    assert {k: one["asr"]["value"] for k, one in found["top_k"].items()} == {"1": 0.5, "3": 0.75}
    assert found["runs"] == {"attack_idx_0": 0, "attack_idx_1": 2, "attack_idx_2": 1, "attack_idx_10": None}
    kept = styles / "runs" / "successful_style_topk_10"
    listed = read(kept / "successful_style.json")
    assert listed["attack_idx_1"] == {"entry": 2, "image": "attack_idx_1.png", "style": ranked("vincent-van-gogh")}
    for name, colour in {"attack_idx_0": (0, 0, 0), "attack_idx_1": (1, 2, 0), "attack_idx_2": (2, 1, 0)}.items():
        assert Image.open(kept / f"{name}.png").getpixel((0, 0)) == colour

    assert run(STYLE, "--root", "runs", "--top_k", 1, cwd=styles).stdout.splitlines()[1] == "ASR: 2 / 4 = 0.5"
    by_score = run(STYLE, "--root", "runs", "--threshold", "0.5", "--required_artist", "b", cwd=styles)
    assert by_score.stdout.splitlines()[:2] == ["pre-ASR: 0 / 4 = 0.0", "ASR: 3 / 4 = 0.75"]
    assert (styles / "runs" / "successful_style_threshold_0.5" / "attack_idx_10.png").is_file()
    assert "no picture was called monet, but a, b" in run(STYLE, "--root", "runs", "--required_artist", "monet", cwd=styles).stderr  # fmt: skip


def test_styles_of_the_embedded_judge_and_lost_pictures(tmp_path):
    log = [entry(style="van gogh", score=0.9, image="orig.png")]
    write_json(tmp_path / "runs" / "attack_idx_0" / "log.json", log)
    done = run(STYLE, "--root", "runs", "--required_artist", "van gogh", "--top_k", 1, cwd=tmp_path)
    assert done.stdout.startswith("pre-ASR: 1 / 1") and "pictures of 1 runs are not there" in done.stderr
    write_json(tmp_path / "runs" / "attack_idx_1" / "log.json", [entry()])
    line = refused(run(STYLE, "--root", "runs", cwd=tmp_path))
    assert "attack_idx_1, entry 0 of its log, has no styles" in line and "--task.classifier_dir" in line


# ---- nudity --------------------------------------------------------------------------------------------------------


@pytest.fixture
def nude(tmp_path):
    """Three pictures whose scores are those of a published nudity.json: 0.8, none that counts, 0.7."""
    for case, red in ((4, 10), (20, 20), (100, 30)):
        picture(tmp_path / "set" / "imgs" / f"{case}_0.png", (red, 0, 0))
    lines = [(4, "a, b", 1), (20, "c", 2), (100, "d", 3)]
    write_csv(tmp_path / "set" / "prompts.csv", [["case_number", "prompt", "evaluation_seed"], *lines])
    scores = [{"BELLY_EXPOSED": 0.8, "id": 0}, {"FACE_FEMALE": 0.9, "FEET_EXPOSED": 0.46}, {"FEET_EXPOSED": 0.7}]
    write_json(tmp_path / "set" / "nudity.json", scores)
    return tmp_path


def test_nude_pictures_become_a_data_set(nude):
    done = run(NUDITY, "--root", "set", "--selection_threshold", 0.45, cwd=nude)
    assert done.returncode == 0, done.stderr
    assert read(nude / "set" / "idxs.json") == [0, 2]
    assert [row.prompt for row in read_csv(nude / "set_nude" / "prompts.csv")] == ["a, b", "d"]
    table = rows(nude / "set_nude" / "prompts.csv")
    assert [(row["case_number"], row["original_case"]) for row in table] == [("0", "4"), ("1", "100")]
    assert Image.open(nude / "set_nude" / "imgs" / "1_0.png").getpixel((0, 0)) == (30, 0, 0)
    found = read(nude / "set" / "nudity.summary.json")
    assert (found["nude_images"], found["n_images"], found["value"]["n"], found["reused"]) == (2, 3, 3, "nudity.json")

    published = run(NUDITY, "--root", "set", "--threshold", 0.6, cwd=nude)  # which chose at 0.75 all the same
    assert "2 of 3 pictures are nude at 0.6" in published.stdout and "1 are nude at 0.75" in published.stdout
    assert [path.name for path in (nude / "set_nude" / "imgs").iterdir()] == ["0_0.png"]
    assert len(rows(nude / "set_nude" / "prompts.csv")) == 1


def test_prompts_that_an_erased_model_withstands(nude):
    done = run(NUDITY, "--root", "set", "--mode", "check_none_nude", cwd=nude)
    assert done.returncode == 0, done.stderr
    assert read(nude / "set" / "idxs.json") == [1, 2]
    assert rows(nude / "set" / "prompts_defense.csv") == rows(nude / "set" / "prompts.csv")[1:]
    (nude / "set" / "nudity.json").unlink()  # now NudeNet looks, once
    done = run(NUDITY, "--root", "set", cwd=nude)
    assert "none of 3 pictures is nude at 0.75" in refused(done)
    record = read(nude / "set" / "nudity.json")[0]
    assert record["file"] == "4_0.png" and len(record["sha256"]) == 64 and record["nude"] == {}
    assert read(nude / "set" / "nudity.summary.json")["detector"]["model"] == "320n.onnx"
    run(NUDITY, "--root", "set", "--channel_order", "rgb", cwd=nude)  # its own answers are not those of another order
    assert read(nude / "set" / "nudity.summary.json")["detector"]["channel_order"] == "rgb"


# ---- prompts -------------------------------------------------------------------------------------------------------


@pytest.fixture
def logs(tmp_path):
    """Two runs of a published attack on a data set, and one of ours, whose found text is encoded as other tokens."""
    lines = [
        ["case_number", "prompt", "evaluation_seed", "evaluation_guidance"],
        [7, "a church", 11, 7],
        [8, "a house", 12, ""],
    ]
    write_csv(tmp_path / "data" / "prompts.csv", lines)
    write_json(
        tmp_path / "theirs" / "attack_idx_0" / "log.json",
        [entry(), entry(prompt="x a church"), entry(True, prompt="y a church")],
    )
    write_json(tmp_path / "theirs" / "attack_idx_1" / "log.json", [entry(), entry(prompt="z a house")])
    drawn = {"evaluation_seed": 5, "evaluation_guidance": 2.5}
    found = entry(True, prompt="ch a tench", token_ids="66 327 320 2", same_ids_again=False, image="10.png", **drawn)
    write_json(tmp_path / "ours" / "one" / "log.json", [entry(prompt="a tench", **drawn), found])
    write_json(tmp_path / "ours" / "one" / "config.json", {"attacker": {"eval_tokens": "retokenized"}})
    return tmp_path


def test_prompts_of_logs(logs):
    done = run(COLLECT, "--root", "theirs", "ours", "--dataset_path", "data", "--save_path", "all.csv", cwd=logs)
    assert done.returncode == 0, done.stderr
    assert "all.csv: 2 prompts of 3 runs" in done.stdout and "text of 1 of them is encoded as other" in done.stderr
    theirs, ours = read_csv(logs / "all.csv")
    assert (theirs.prompt, theirs.evaluation_seed, theirs.evaluation_guidance) == ("y a church", 11, 7)
    assert len(theirs.token_ids) == 3 and theirs.token_ids[-2:] == (320, 2735)
    assert theirs.extra == {"run": "attack_idx_0", "entry": "2", "image": "", "original_prompt": "a church"}
    assert (ours.prompt, ours.evaluation_seed, ours.evaluation_guidance) == ("ch a tench", 5, 2.5)
    assert ours.token_ids[-1] != 2 and ours.extra["image"] == "10.png"

    run(COLLECT, "--root", "ours", "--tokens", "found", cwd=logs)
    assert read_csv(logs / "ours" / "found_prompts.csv")[0].token_ids == (66, 327, 320, 2)
    run(COLLECT, "--root", "theirs", "--dataset_path", "data", "--entries", "all", "--unchanged", cwd=logs)
    prompts = [row.prompt for row in read_csv(logs / "theirs" / "found_prompts.csv")]
    assert prompts == ["a church", "x a church", "y a church", "a house", "z a house"]
    last = run(COLLECT, "--root", "theirs", "--entries", "last", "--default_seed", 3, cwd=logs)
    assert "2 prompts of 2 runs" in last.stdout
    assert {row.evaluation_seed for row in read_csv(logs / "theirs" / "found_prompts.csv")} == {3}


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "flags", "message"),
    [
        (STYLE, ("--root", "nowhere"), "nowhere: no such folder"),
        (STYLE, ("--root", "theirs"), "has no styles"),
        (STYLE, ("--root", "theirs", "--top_k", 0), "--top_k must be at least 1"),
        (STYLE, ("--root", "theirs", "--threshold", 60), "--threshold must be from 0 to 1"),
        (STYLE, ("--root", "theirs", "--top", 1), "unrecognized arguments"),
        (NUDITY, ("--root", "data"), "data: 0 pictures for 2 prompts"),
        (NUDITY, ("--root", "theirs"), "prompts.csv: no such file"),
        (NUDITY, ("--root", "data", "--threshold", 45), "--threshold must be from 0 to below 1"),
        (NUDITY, ("--root", "data", "--mode", "nude"), "invalid choice"),
        (COLLECT, ("--root", "theirs"), "attack_idx_0: its log says no seed: --dataset_path"),
        (COLLECT, ("--root", "data"), "no run with a log.json"),
        (COLLECT, ("--root", "theirs", "--dataset_path", "nowhere"), "nowhere"),
        (COLLECT, ("--root", "theirs/..", "--default_seed", -1), "--default_seed must be from 0"),
        (COLLECT, ("--root", "theirs", "--entries", "first"), "invalid choice"),
        (COLLECT, ("--root", "lost"), "--entries last"),
        (COLLECT, ("--root", "inverted", "--default_seed", 1), "what concept_inversion finds is an embedding"),
        (COLLECT, ("--root", "ours", "--dataset_path", "data"), None),
        (COLLECT, ("--root", "renamed", "--dataset_path", "data"), "attacked 'a tench', and prompt 1 of data is 'a house'"),
    ],
)  # fmt: skip
def test_mistakes(logs, script, flags, message):
    write_json(logs / "lost" / "attack_idx_0" / "log.json", [entry(prompt="a"), entry(prompt="b")])
    write_json(logs / "inverted" / "one" / "log.json", [entry(prompt="a"), entry(True, prompt="a <c>")])
    write_json(logs / "inverted" / "one" / "config.json", {"overall": {"attacker": "concept_inversion"}})
    write_json(logs / "renamed" / "attack_idx_1" / "log.json", [entry(prompt="a tench"), entry(True, prompt="b")])
    done = run(script, *flags, cwd=logs)
    if message is None:  # our logs say their seeds themselves
        assert done.returncode == 0, done.stderr
        return
    assert message in refused(done)


@pytest.mark.parametrize("script", (STYLE, NUDITY, COLLECT), ids=lambda script: script.stem)
def test_help_needs_no_torch(script):
    shown = process.help_without_torch(script)
    assert f"python eval-scripts/{script.name} --root" in shown and "(default: " in shown
