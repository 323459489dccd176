"""eval-scripts/lpips_eval.py: the published command lines of ESD, UCE and SepCE, with a random trunk."""

import csv
import json

import pytest
import torch

from erasure.runs import ROOT, save_pt
from tests.cli.class_pictures import draw, run
from tests.cli.generation_place import files, refused
from tests.cli.process import run as process

SCRIPT = ROOT / "eval-scripts" / "lpips_eval.py"
RANDOM = "--allow_random_weights"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two models' pictures of three cases, flat and by class; case 3 has no picture, and one picture has no partner."""
    folder = tmp_path_factory.mktemp("place")
    for case, k, change in ((0, 0, 0), (0, 1, 3), (10, 0, 5), (2, 0, 0)):
        for name, seed in (("base", 1), ("edit", 1 + change)):
            picture = f"{case}_{k}.png"
            for path in (folder / name / picture, folder / "classes" / name / str(case // 5) / picture):
                draw(path, 0, 1, seed, size=(90, 70) if k else (70, 70))
    draw(folder / "base" / "2_1.png", 0, 1, 9, size=(70, 70))
    draw(folder / "base" / "1_0.png", 0, 1, 9, size=(70, 70))  # of a case that is not asked for
    (folder / "edit" / "manifest.json").write_text("{}")
    (folder / "prompts.csv").write_text(
        ',case_number,prompt,evaluation_seed\n0,10,"a, b",1\n1,0,Picasso,2\n2,3,none,3\n3,2,,4\n', encoding="utf-8"
    )
    return folder


def rows(path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_esd(place):
    """From another folder; without --save_path the file lies beside the pictures (published: nowhere)."""
    flags = (
        "--original_path",
        place / "base",
        "--edited_path",
        f"{place}/edit/",
        "--prompts_path",
        place / "prompts.csv",
    )
    result = process(SCRIPT, *flags, RANDOM, cwd="/")
    assert result.returncode == 0, result.stderr
    assert "1 pictures have no partner" in result.stderr and "numbers mean nothing" in result.stderr
    table = rows(place / "edit_lpipsloss.csv")
    assert list(table[0]) == ["", "Unnamed: 0", "case_number", "prompt", "evaluation_seed", "lpips_loss"]
    assert [(row[""], row["case_number"], row["prompt"]) for row in table] == [
        ("0", "10", "a, b"), ("1", "0", "Picasso"), ("2", "3", "none"), ("3", "2", ""),
    ]  # fmt: skip
    loss = {row["case_number"]: row["lpips_loss"] for row in table}
    assert float(loss["10"]) > 0 and float(loss["2"]) == 0 and loss["3"] == ""
    pairs = rows(place / "edit_lpipsloss_per_image.csv")
    assert [pair["original"].rpartition("/")[2] for pair in pairs] == ["10_0.png", "0_0.png", "0_1.png", "2_0.png"]
    values = {pair["original"].rpartition("/")[2]: float(pair["lpips"]) for pair in pairs}
    assert values["0_0.png"] == 0 and float(loss["0"]) == pytest.approx(values["0_1.png"] / 2)
    summary = json.loads((place / "edit_lpipsloss.summary.json").read_text())
    assert summary["value"]["n"] == summary["n_images"] == 4 and summary["n_missing"] == 1
    assert summary["definition"]["random_weights"] and summary["definition"]["image_size"] == 64


def test_uce_and_a_second_run(place, tmp_path):
    flags = ("--original_path", "base", "--edited_path", "edit", "--csv_path", "prompts.csv", "--save_path", tmp_path)
    assert run(SCRIPT, *flags, RANDOM, cwd=place).returncode == 0
    written = files(tmp_path)
    assert run(SCRIPT, *flags, RANDOM, cwd=place).returncode == 0
    assert written == files(tmp_path) and len(written) == 3
    one = run(SCRIPT, *flags, "--image", "0_1.png", RANDOM, cwd=place)
    assert one.stdout.splitlines()[0].startswith("0_1.png: ")
    without_csv = ("--original_path", "base", "--edited_path", "edit", "--image", "0_1.png", "--save_path", tmp_path)
    assert run(SCRIPT, *without_csv, RANDOM, cwd=place).stdout.splitlines()[0] == one.stdout.splitlines()[0]


def test_sepce(place, tmp_path):
    """Both versions: a line per class; the first only of the cases of its CSV."""
    (tmp_path / "two.csv").write_text("case_number,prompt\n10,a\n0,b\n")
    flags = ("--original_path", "classes/base", "--edited_path", "classes/edit", "--prompts_path", tmp_path / "two.csv")
    first = run(SCRIPT, *flags, "--save_path", tmp_path / "v1", RANDOM, cwd=place)
    assert first.returncode == 0, first.stderr
    lines = first.stdout.splitlines()
    assert [line.rpartition(": ")[0] for line in lines[:2]] == [
        f"{tmp_path / 'two.csv'}-0",
        f"{tmp_path / 'two.csv'}-2",
    ]
    flags = ("--path1", "classes/base", "--path2", "classes/edit", "--save_path", tmp_path / "v2")
    second = run(SCRIPT, *flags, RANDOM, cwd=place)
    assert [line.partition(": ")[0] for line in second.stdout.splitlines()[:2]] == ["0", "2"]
    of_first, of_second = (rows(tmp_path / v / "edit_lpipsloss.csv") for v in ("v1", "v2"))
    assert [(row["class"], row["images"]) for row in of_first] == [("0", "2"), ("2", "1")]
    assert [(row["class"], row["images"]) for row in of_second] == [("0", "3"), ("2", "1")]
    assert float(of_second[0]["lpips"]) == pytest.approx(float(of_first[0]["lpips"]) * 2 / 3)
    assert float(second.stdout.splitlines()[1].partition(": ")[2]) == float(of_second[1]["lpips"])


def test_settings_give_different_numbers(place, tmp_path):
    flags = ("--path1", "classes/base", "--path2", "classes/edit", "--save_path", tmp_path, RANDOM)
    found = set()
    for more in ((), ("--preprocess", "none"), ("--preprocess", "rece"), ("--net", "squeeze"), ("--image_size", 40)):
        assert run(SCRIPT, *flags, *more, cwd=place).returncode == 0
        found.add(json.loads((tmp_path / "edit_lpipsloss.summary.json").read_text())["value"]["value"])
    assert len(found) == 5


def test_a_trunk_of_the_users(place, tmp_path):
    import torchvision

    from erasure.metrics.lpips import Lpips

    torch.manual_seed(1)
    alexnet = torchvision.models.alexnet()
    save_pt(tmp_path / "alexnet.pth", alexnet.state_dict())
    flags = ("--path1", "classes/base", "--path2", "classes/edit", "--save_path", tmp_path)
    result = run(SCRIPT, *flags, "--trunk_weights", tmp_path / "alexnet.pth", cwd=place)
    assert result.returncode == 0 and "nothing" not in result.stderr, result.stderr
    trunk = json.loads((tmp_path / "edit_lpipsloss.summary.json").read_text())["definition"]["trunk"]
    assert trunk["weights"] == "alexnet.pth" and len(trunk["sha256"]) == 64
    network = Lpips("alex", tmp_path / "alexnet.pth").network.net
    assert torch.equal(network.slice5[-2].weight, alexnet.features[10].weight)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "alexnet-owt-7be5be79.pth"),
        (("--trunk_weights", "nowhere.pth"), "--trunk_weights nowhere.pth: no such file"),
        (("--trunk_weights", "other.pth"), "not the weights of torchvision's alexnet"),
        ((RANDOM, "--image", "x.png"), "not the name of a picture"),
        ((RANDOM, "--image", "99_0.png"), "no picture"),
        ((RANDOM, "--image_size", 0), "--image_size must be at least 1"),
        ((RANDOM, "--edited_path", "nowhere"), "no folder"),
        ((RANDOM, "--original_path", "nowhere"), "no folder"),
        ((RANDOM, "--prompts_path", "nowhere.csv"), "no such file"),
        ((RANDOM, "--prompts_path", "prompts.csv", "--strict"), "no partner"),
        ((RANDOM, "--prompts_path", "prompts.csv", "--edited_path", "sizes"), "differ in size"),
        ((RANDOM, "--prompts_path", "prompts.csv", "--edited_path", "damaged"), "not an image that can be read"),
        ((RANDOM, "--net", "resnet"), "invalid choice"),
        ((RANDOM, "--original", "base"), "unrecognized arguments"),
    ],
)  # fmt: skip
def test_mistakes(place, tmp_path, monkeypatch, flags, message):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    draw(place / "sizes" / "10_0.png", 0, 1, 0, size=(70, 140))
    (place / "damaged").mkdir(exist_ok=True)
    (place / "damaged" / "10_0.png").write_bytes(b"no picture")
    save_pt(place / "other.pth", {"features.0.weight": torch.zeros(2)})
    start = ["--original_path", "base", "--edited_path", "edit", "--save_path", tmp_path / "out"]
    if not {"--prompts_path", "--image"} & set(flags):
        start += ["--prompts_path", "prompts.csv"]
    assert message in refused(run(SCRIPT, *start, *flags, cwd=place))
    assert not (tmp_path / "out").exists()


def test_which_pictures_must_be_said(place):
    flags = ("--original_path", "base", "--edited_path", "edit", RANDOM)
    assert "--prompts_path is missing" in refused(run(SCRIPT, *flags, cwd=place))
    flags = ("--path1", "classes/base", "--path2", "classes/edit", "--image", "0_0.png", RANDOM)
    assert "--image is for flat folders" in refused(run(SCRIPT, *flags, cwd=place))
