"""artist-cls-train.py, artist-cls-test.py and cate-cls-test.py on a few small pictures."""

import csv
import json

import numpy as np
import pytest
import torch

from erasure import errors
from erasure.runs import ROOT, save_pt
from tests.cli.class_pictures import SEPCE, class_list, draw, drawn, run
from tests.cli.generation_place import files, refused
from tests.cli.process import run as process

TRAIN, TEST, CATEGORY = (SEPCE / f"{name}.py" for name in ("artist-cls-train", "artist-cls-test", "cate-cls-test"))
LPIPS = ROOT / "eval-scripts" / "lpips_eval.py"
QUICK = ("--path", "data", "--workers", 0, "--batch_size", 4)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Training and held-out pictures of three colours."""
    folder = tmp_path_factory.mktemp("place")
    drawn(folder / "data" / "train", cases=8)
    drawn(folder / "data" / "eval", cases=4)
    class_list(folder / "data" / "classes.csv")
    return folder


@pytest.fixture(scope="module")
def trained(place):
    result = process(TRAIN, *QUICK, "--epochs", 8, "--model_path", "trained", cwd=place)
    assert result.returncode == 0, result.stderr
    return result


def test_training(place, trained):
    """Published lines and file name; the file holds tensors only, the note beside it says what they are."""
    lines = [line for line in trained.stdout.splitlines() if line.startswith("epoch_")]
    assert [line.rpartition("--acc_")[0] for line in lines] == [f"epoch_{epoch}" for epoch in range(8)]
    accuracies = [float(line.rpartition("--acc_")[2]) for line in lines]
    tensors = torch.load(place / "trained" / "artis_model_10.pth", weights_only=True)
    assert all(name.startswith("model.") for name in tensors) and "model.fc.weight" in tensors
    note = json.loads((place / "trained" / "artis_model_10.json").read_text())
    assert note["accuracies"] == accuracies and note["accuracy"] == max(accuracies) >= 0.9
    assert note["epoch"] == max(epoch for epoch, accuracy in enumerate(accuracies) if accuracy == max(accuracies))
    assert [one["prompt"] for one in note["classes"]] == ["Red", "Green", "Blue"] and note["finished"]
    assert {path.name for path in (place / "trained").iterdir()} == {"artis_model_10.pth", "artis_model_10.json"}


def test_a_finished_training_is_kept(place, trained):
    before = files(place / "trained")
    again = run(TRAIN, *QUICK, "--epochs", 8, "--model_path", "trained", cwd=place)
    assert again.returncode == 0 and "is there already" in again.stdout
    assert "with other settings" in refused(run(TRAIN, *QUICK, "--epochs", 3, "--model_path", "trained", cwd=place))
    assert files(place / "trained") == before


def interrupted(place, monkeypatch, after: int, flags) -> int:
    """Ctrl-C after so many epochs; returns the exit code."""
    from methods.sepce.classifier_run import ClassifierRun

    save = ClassifierRun._save_progress

    def stop(self, module, progress):
        save(self, module, progress)
        if len(progress.accuracies) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ClassifierRun, "_save_progress", stop)
        return run(TRAIN, *flags, cwd=place).returncode


@pytest.mark.parametrize("after", [1, 3, 4])
def test_a_stopped_training_goes_on_to_the_same_bytes(place, monkeypatch, after, tmp_path):
    flags = (*QUICK, "--epochs", 4)
    assert run(TRAIN, *flags, "--model_path", tmp_path / "whole", cwd=place).returncode == 0
    flags = (*flags, "--model_path", tmp_path / "parts")
    assert interrupted(place, monkeypatch, after, flags) == errors.INTERRUPTED
    assert f"stopped after {after} of 4 epochs" in refused(run(TRAIN, *flags, cwd=place))
    assert run(TRAIN, *flags, "--resume", cwd=place).returncode == 0
    assert files(tmp_path / "whole") == files(tmp_path / "parts")


def test_force_starts_again(place, monkeypatch, tmp_path):
    flags = (*QUICK, "--epochs", 2, "--model_path", tmp_path)
    interrupted(place, monkeypatch, 1, flags)
    result = run(TRAIN, *flags, "--force", cwd=place)
    assert result.returncode == 0 and "epoch_0--" in result.stdout
    assert "unknown training" in refused(_without_note(place, flags, tmp_path))


def _without_note(place, flags, folder):
    (folder / "artis_model_10.json").unlink()
    return run(TRAIN, *flags, cwd=place)


def test_the_published_way(place, tmp_path):
    """ResNet-18, of which only the last layer and the statistics of batch norm change."""
    import torchvision

    torch.manual_seed(0)
    resnet = torchvision.models.resnet18().state_dict()
    save_pt(tmp_path / "resnet.pth", resnet)
    flags = (*QUICK, "--epochs", 1, "--image_size", 32, "--lr_schedule", "multistep", "--normal_mean", 0)
    flags += ("--backbone_weights", tmp_path / "resnet.pth", "--model_path", tmp_path / "m", "--device", "cuda:5")
    result = run(TRAIN, *flags, cwd=place)
    assert result.returncode == 0, result.stderr
    saved = torch.load(tmp_path / "m" / "artis_model_10.pth", weights_only=True)
    assert saved["model.fc.weight"].shape == (3, 512)
    changed = {
        name for name, value in resnet.items() if name[:2] != "fc" and not torch.equal(saved[f"model.{name}"], value)
    }
    assert changed and all("running" in name or "num_batches" in name for name in changed)
    note = json.loads((tmp_path / "m" / "artis_model_10.json").read_text())
    assert note["backbone"]["weights"] == "resnet.pth" and note["test_image_size"] == 256
    tested = run(TEST, "--path", "data", "--model_path", tmp_path / "m" / "artis_model_10.pth", cwd=place)
    assert (
        tested.returncode == 0
        and json_of(place / "data" / "eval_artist_cls.summary.json")["definition"]["image_size"] == 256
    )


def json_of(path):
    return json.loads(path.read_text())


HELP = "import sys, runpy; sys.modules['torch'] = None; sys.argv = ['x', '--help']; runpy.run_path({!r}, run_name='__main__')"


@pytest.mark.parametrize("script", [TRAIN, TEST, CATEGORY, SEPCE / "make_dataset.py", SEPCE / "move_image.py", LPIPS])
def test_help_needs_no_torch(script, tmp_path):
    shown = process("-c", HELP.format(str(script)), cwd=tmp_path)
    assert shown.returncode == 0 and script.name in shown.stdout and "default" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--path", "nowhere"), "no folder nowhere"),
        (("--from_scratch", "--backbone_weights", "x.pth"), "--from_scratch is without"),
        (("--backbone_weights", "x.pth"), "--backbone_weights x.pth: no such file"),
        (("--epochs", 0), "epochs must be at least 1"),
        (("--lr-max", "-1"), "learning rates"),
        (("--momentum", 1), "momentum"),
        (("--lr_schedule", "cosine"), "invalid choice"),
        (("--classes", ROOT / "data" / "artist_classes.csv"), "no pictures of class 3"),
        (("--resume", "--force"), "not allowed with"),
        (("--device", "gpu"), "--device 'gpu'"),
    ],
)
def test_mistakes_of_training(place, flags, message, tmp_path):
    assert message in refused(run(TRAIN, *QUICK, "--model_path", tmp_path / "m", *flags, cwd=place))
    assert not (tmp_path / "m").exists()


def test_no_resnet_is_downloaded(place, tmp_path, monkeypatch):
    """Large pictures are for the published network, whose weights are the user's: the line says where from and where to."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    drawn(tmp_path / "data" / "train", classes=1, cases=1)
    drawn(tmp_path / "data" / "eval", classes=1, cases=1)
    class_list(tmp_path / "data" / "classes.csv", ("Red",))
    for side in ("train", "eval"):
        draw(tmp_path / "data" / side / "0" / "0_0.png", 0, 1, 0, size=(200, 160))
    message = refused(run(TRAIN, *QUICK, "--model_path", "m", cwd=tmp_path))
    assert "resnet18-f37072fd.pth" in message and "models/torchvision" in message and "--backbone_weights" in message


# ---- artist-cls-test.py --------------------------------------------------------------------------------------------


def test_the_published_test(place, trained, tmp_path):
    """With a folder that is missing, one that is empty, and a picture in the wrong one."""
    evaluation = tmp_path / "evaluation_folder"
    (evaluation / "eval" / "1").mkdir(parents=True)
    drawn(evaluation / "eval", classes=1, cases=5)
    wrong = (place / "data" / "eval" / "2" / "0_0.png").read_bytes()
    (evaluation / "eval" / "0" / "9_0.png").write_bytes(wrong)
    model = place / "trained" / "artis_model_10.pth"
    result = process(TEST, "--path", "./evaluation_folder/", "--model_path", model, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "6 0 0" and lines[1] == f"test-acc0_{5 / 6}-acc1_nan-acc2_nan"
    with open(evaluation / "eval_artist_cls.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["images"], row["right"]) for row in rows] == [
        ("Red", "6", "5"),
        ("Green", "0", "0"),
        ("Blue", "0", "0"),
    ]
    assert rows[1]["accuracy"] == ""
    with open(evaluation / "eval_artist_cls_confusion.csv", newline="") as file:
        assert list(csv.reader(file))[1] == ["0", "5", "0", "1", "0"]
    with open(evaluation / "eval_artist_cls_per_image.csv", newline="") as file:
        images = list(csv.DictReader(file))
    assert [row["file"] for row in images if row["right"] == "0"] == ["0/9_0.png"]
    summary = json_of(evaluation / "eval_artist_cls.summary.json")
    assert summary["value"]["n"] == 6 and summary["per_group"]["0"]["value"] == 5 / 6


def test_batches_do_not_matter(place, trained, tmp_path):
    answers = []
    for size in (1, 7):
        flags = ("--path", "data", "--model_path", "trained/artis_model_10.pth", "--batch_size", size)
        assert run(TEST, *flags, "--save_path", tmp_path / str(size), cwd=place).returncode == 0
        with open(tmp_path / str(size) / "eval_artist_cls_per_image.csv", newline="") as file:
            answers.append(list(csv.DictReader(file)))
    for one, other in zip(*answers, strict=True):
        assert (one["file"], one["answer"]) == (other["file"], other["answer"])
        assert float(one["probability"]) == pytest.approx(float(other["probability"]), abs=1e-5)


def test_a_class_without_a_folder_comes_first(place, trained, tmp_path):
    """--label_offset 1: folders 0 and 1 are the classifier's classes 1 and 2."""
    for number in (1, 2):
        drawn_folder = tmp_path / "e" / "eval" / str(number - 1)
        drawn_folder.mkdir(parents=True)
        for path in (place / "data" / "eval" / str(number)).iterdir():
            (drawn_folder / path.name).write_bytes(path.read_bytes())
    flags = ("--path", "e", "--model_path", place / "trained" / "artis_model_10.pth", "--label_offset", 1)
    result = run(TEST, *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[:2] == ["4 4", "test-acc0_1.0-acc1_1.0"]


def test_a_file_of_the_authors_kind(place, trained, tmp_path):
    """Names as DataParallel saves them, and no note: the classes come from the CSV, the size is the published one."""
    tensors = torch.load(place / "trained" / "artis_model_10.pth", weights_only=True)
    save_pt(tmp_path / "model.pth", {f"module.{name}": value for name, value in tensors.items()})
    flags = ("--path", "data", "--model_path", tmp_path / "model.pth", "--save_path", tmp_path)
    assert "knows 3 classes" in refused(run(TEST, *flags, cwd=place))
    result = run(TEST, *flags, "--classes", "data/classes.csv", "--image_size", 16, cwd=place)
    assert result.returncode == 0 and result.stdout.splitlines()[0] == "4 4 4"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_path", "nowhere.pth"), "no classifier nowhere.pth"),
        (("--model_path", "data/eval/0/0_0.png"), "0_0.png"),
        (("--model_path", "other.pth"), "not an artist classifier"),
        (("--path", "nowhere"), "no folder nowhere"),
        (("--folder", "nothing"), "no folder"),
        (("--folder", "many"), "there are 3 classes"),
        (("--image_size", 0), "--image_size must be at least 1"),
        (("--label_offset", 2), "invalid choice"),
    ],
)
def test_mistakes_of_the_test(place, trained, flags, message):
    (place / "data" / "many" / "7").mkdir(parents=True, exist_ok=True)
    save_pt(place / "other.pth", {"weight": torch.zeros(2)})
    start = ("--path", "data", "--model_path", "trained/artis_model_10.pth")
    assert message in refused(run(TEST, *start, *flags, cwd=place))


# ---- cate-cls-test.py ----------------------------------------------------------------------------------------------


def test_categories(place, tmp_path):
    """A network that says golf ball to every picture: folder 6 is right, all others are wrong, and one never asked for."""
    import torchvision

    with torch.device("meta"):
        resnet = torchvision.models.resnet50()
    weights = {name: torch.zeros(value.shape, dtype=value.dtype) for name, value in resnet.state_dict().items()}
    weights["fc.bias"][574] = 1
    save_pt(tmp_path / "resnet.pth", weights)
    drawn(tmp_path / "evaluation_folder-diff" / "eval", classes=7, cases=2)
    flags = ("--backbone_weights", "resnet.pth", "--model_path", "models/artist_model0.pth")
    result = run(CATEGORY, *flags, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "2 2 2 2 2 2 2 0 0"
    assert lines[1] == "-".join(f"acc{i}_{s}" for i, s in enumerate([*["0.0"] * 6, "1.0", "nan", "nan"], start=1))
    summary = json_of(tmp_path / "evaluation_folder-diff" / "eval_cate_cls.summary.json")
    assert (
        summary["value"]["value"] == pytest.approx(1 / 7)
        and summary["definition"]["classifier"]["weights"] == "resnet.pth"
    )


def test_categories_by_random_weights(tmp_path):
    drawn(tmp_path / "e" / "eval", classes=2, cases=1)
    result = process(CATEGORY, "--path", "e", "--allow_random_weights", cwd=tmp_path)
    assert result.returncode == 0 and "numbers mean nothing" in result.stderr
    assert json_of(tmp_path / "e" / "eval_cate_cls.summary.json")["definition"]["random_weights"] is True
    with open(tmp_path / "e" / "eval_cate_cls_confusion.csv", newline="") as file:
        assert np.array([row[1:] for row in list(csv.reader(file))[1:]], dtype=int).sum() == 2


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--path", "nowhere"), "no folder"),
        (("--classes", "no-index.csv"), "no imagenet_index"),
        (("--classes", "twice.csv"), "imagenet_index 3 is in two classes"),
        (("--backbone_weights", "wrong.pth"), "not the weights of torchvision's resnet50"),
        ((), "resnet50-0676ba61.pth"),
        (("--batch_size", 0), "--batch_size must be"),
    ],
)
def test_mistakes_of_categories(tmp_path, monkeypatch, flags, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    drawn(tmp_path / "e" / "eval", classes=2, cases=1)
    class_list(tmp_path / "no-index.csv")
    (tmp_path / "twice.csv").write_text("index,prompt,imagenet_index\n0,a,3\n1,b,3\n")
    save_pt(tmp_path / "wrong.pth", {"weight": torch.zeros(2)})
    assert message in refused(run(CATEGORY, "--path", "e", *flags, cwd=tmp_path))
    assert not list(tmp_path.glob("e/*.csv"))
