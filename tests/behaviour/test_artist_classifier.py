"""The artist classifier on the embedded model: drawn, trained and tested by SepCE's commands, on fewer pictures."""

import json

import pytest

from erasure import base_models
from erasure.generation import generate, settings
from erasure.prompts import Row
from erasure.runs import ROOT
from methods.sepce import class_lists
from tests.cli.class_pictures import SEPCE, run

CLASSES = ROOT / "data" / "artist_classes_toy.csv"
CASES = 12  # of a class; a third is held out
QUICK = {"sampler": "dpm", "steps": 6}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """What generate-data.py --sequential_seeds draws, with the model loaded once."""
    folder = tmp_path_factory.mktemp("artists")
    model, identity = base_models.load("toy")
    for one in class_lists.read(CLASSES):
        rows = [Row(case, one.prompt, case) for case in range(CASES)]
        target = folder / "data" / str(one.index)
        generate(model, rows, target, settings("toy", **QUICK), {"base": identity.to_dict()}, progress=False)
    return folder


@pytest.mark.behaviour
@pytest.mark.slow
def test_it_knows_the_artists_on_pictures_it_has_not_seen(place):
    made = run(SEPCE / "make_dataset.py", "--classes", CLASSES, "--train_share", 2 / 3, cwd=place)
    assert made.returncode == 0, made.stderr
    flags = ("--epochs", 20, "--batch_size", 10, "--workers", 0, "--model_path", "./models/")
    trained = run(SEPCE / "artist-cls-train.py", *flags, cwd=place)
    assert trained.returncode == 0 and "--from_scratch small" in trained.stdout, trained.stderr
    assert (place / "models" / "artis_model_10.pth").is_file()
    tested = run(SEPCE / "artist-cls-test.py", "--path", "data", "--model_path", "models/artis_model_10.pth", cwd=place)
    assert tested.returncode == 0, tested.stderr
    summary = json.loads((place / "data" / "eval_artist_cls.summary.json").read_text())
    assert summary["value"]["n"] == len(class_lists.read(CLASSES)) * CASES // 3
    assert summary["value"]["value"] >= 0.95, summary["per_group"]
