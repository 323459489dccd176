"""make_dataset.py and move_image.py: pictures find their folders, and none is ever lost."""

import csv
import os

import pytest

from erasure.runs import ROOT
from tests.cli.class_pictures import SEPCE, class_list, draw, drawn, run
from tests.cli.generation_place import files, pictures, refused
from tests.cli.process import run as process

MAKE, MOVE = SEPCE / "make_dataset.py", SEPCE / "move_image.py"


@pytest.fixture
def place(tmp_path):
    drawn(tmp_path / "data")
    class_list(tmp_path / "classes.csv", ("Red", "Green", ""))
    return tmp_path


def made(place) -> dict[str, bytes]:
    return {name: content for name, content in pictures(place / "data").items() if not name[0].isdigit()}


# ---- make_dataset.py -----------------------------------------------------------------------------------------------


def test_both_layouts(place):
    result = process(MAKE, "--path", "./data/", "--classes", "classes.csv", cwd=place)
    assert result.returncode == 0, result.stderr
    expected = {f"{name}/{case}_0.png" for name in ("Red", "Green") for case in range(10)}
    expected |= {f"train/{n}/{case}_0.png" for n in range(3) for case in range(7)}
    expected |= {f"eval/{n}/{case}_0.png" for n in range(3) for case in (7, 8, 9)}
    assert set(made(place)) == expected
    for name, content in made(place).items():
        number = {"Red": "0", "Green": "1"}.get(name.split("/")[0]) or name.split("/")[1]
        assert content == (place / "data" / number / name.rpartition("/")[2]).read_bytes()
    assert (place / "data" / "classes.csv").read_bytes() == (place / "classes.csv").read_bytes()


def test_a_second_run_finds_it_done_and_the_pictures_are_stored_once(place):
    flags = ("--path", "data", "--classes", "classes.csv")
    run(MAKE, *flags, cwd=place)
    before = files(place)
    result = run(MAKE, *flags, cwd=place)
    assert " 0 links made, 50 there already" in result.stdout and files(place) == before
    assert os.stat(place / "data" / "0" / "0_0.png").st_nlink == 3
    copied = run(MAKE, *flags, "--copy", cwd=place)
    assert copied.returncode == 0 and files(place) == before


def test_more_pictures_move_the_split(place):
    flags = ("--path", "data", "--classes", "classes.csv")
    run(MAKE, *flags, cwd=place)
    for case in range(10, 20):
        draw(place / "data" / "0" / f"{case}_0.png", 0, 3, case)
    assert run(MAKE, *flags, cwd=place).returncode == 0
    sides = {side: sorted(p.name for p in (place / "data" / side / "0").iterdir()) for side in ("train", "eval")}
    assert sides["train"] == sorted(f"{case}_0.png" for case in range(14))
    assert sides["eval"] == sorted(f"{case}_0.png" for case in range(14, 20))
    assert run(MAKE, *flags, "--train_share", "0.5", cwd=place).returncode == 0
    assert len(list((place / "data" / "train" / "0").iterdir())) == 10


def test_what_does_not_belong_is_told(place):
    """A picture that was not drawn here, and held-out pictures that are training pictures under another number."""
    draw(place / "data" / "train" / "1" / "77_0.png", 1, 3, 5)
    with open(place / "data" / "2" / "seeds.csv", "w", newline="") as file:
        csv.writer(file).writerows([["case_number", "prompt", "evaluation_seed"], *([n, "", n % 8] for n in range(10))])
    result = run(MAKE, "--path", "data", "--classes", "classes.csv", cwd=place)
    assert "1 pictures were not drawn here" in result.stderr and "77_0.png" in result.stderr
    assert "class 2: 2 held-out cases have the seed of a training case" in result.stderr
    assert (place / "data" / "train" / "1" / "77_0.png").exists()


def test_another_picture_is_not_replaced_unasked(place):
    mine = place / "data" / "train" / "0" / "0_0.png"
    draw(mine, 2, 3, 0)
    before = mine.read_bytes()
    flags = ("--path", "data", "--classes", "classes.csv")
    assert "is another picture" in refused(run(MAKE, *flags, cwd=place)) and mine.read_bytes() == before
    assert run(MAKE, *flags, "--overwrite", cwd=place).returncode == 0
    assert mine.read_bytes() == (place / "data" / "0" / "0_0.png").read_bytes() != before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--path", "nowhere"), "no pictures of class 0"),
        (("--classes", "nowhere.csv"), "no such file"),
        ((), "generate-data.py --prompt 'Jackson Pollock' --model_name '3'"),
        (("--train_share", "1"), "--train_share must be between 0 and 1"),
        (("--classes", "bad.csv"), "indices must be 0 to 1"),
        (("--classes", "slash.csv"), "cannot name a folder"),
        (("--pat", "data"), "unrecognized arguments"),
    ],
)
def test_mistakes_of_make_dataset(place, flags, message):
    (place / "bad.csv").write_text("index,prompt\n0,a\n5,b\n")
    (place / "slash.csv").write_text("index,prompt\n0,a/b\n")
    before = files(place)
    assert message in refused(run(MAKE, *flags, cwd=place))
    assert files(place) == before


def test_missing_classes_can_be_left_out(place):
    result = run(MAKE, "--allow_missing", cwd=place)
    assert result.returncode == 0 and (place / "data" / "Picasso" / "9_0.png").exists()


# ---- move_image.py -------------------------------------------------------------------------------------------------


@pytest.fixture
def evaluation(tmp_path):
    """The first pictures of three prompts of data/evaluate.csv."""
    for case in (0, 1, 50, 100):
        for k in range(2):
            draw(tmp_path / "evaluation_folder" / "eval" / f"{case}_{k}.png", case // 50, 3, 10 * case + k)
    (tmp_path / "evaluation_folder" / "eval" / "manifest.json").write_text("{}")
    return tmp_path


def test_by_prompt(evaluation):
    """As in the README, without flags; Cezanne, VanGogh and Picasso are classes 2, 0 and 1 of the classifier."""
    before = pictures(evaluation / "evaluation_folder" / "eval")
    result = process(MOVE, cwd=evaluation)
    assert result.returncode == 0, result.stderr
    after = pictures(evaluation / "evaluation_folder" / "eval")
    folder = {0: 2, 1: 2, 50: 0, 100: 1}
    assert after == {f"{folder[int(name.split('_')[0])]}/{name}": content for name, content in before.items()}
    assert (evaluation / "evaluation_folder" / "eval" / "manifest.json").exists()
    again = run(MOVE, cwd=evaluation)
    assert "0 pictures moved" in again.stdout and pictures(evaluation / "evaluation_folder" / "eval") == after


@pytest.mark.parametrize(
    ("flags", "folder"),
    [
        (("--rules", "v1"), lambda case: case // 250),
        (("--per_class", 50), lambda case: case // 50),
        (("--rules", "v2", "--path", "evaluation_folder/eval"), lambda case: case // 50),
    ],
)
def test_by_case_number(evaluation, flags, folder):
    draw(evaluation / "evaluation_folder" / "eval" / "250_0.png", 0, 3, 9)  # which the published V1 left behind
    names = pictures(evaluation / "evaluation_folder" / "eval")
    assert run(MOVE, *flags, cwd=evaluation).returncode == 0
    expected = {f"{folder(int(name.split('_')[0]))}/{name}" for name in names}
    assert set(pictures(evaluation / "evaluation_folder" / "eval")) == expected


def test_v2_has_a_folder_of_its_own(evaluation):
    (evaluation / "evaluation_folder").rename(evaluation / "evaluation_folder-diff")
    assert run(MOVE, "--rules", "v2", cwd=evaluation).returncode == 0
    assert (evaluation / "evaluation_folder-diff" / "eval" / "2" / "100_1.png").exists()


def test_copies_elsewhere(evaluation):
    before = pictures(evaluation / "evaluation_folder")
    flags = ("--path", "evaluation_folder/eval", "--dst", "sorted/eval", "--copy")
    for count in (8, 0):
        assert f"{count} pictures copied" in run(MOVE, *flags, cwd=evaluation).stdout
    assert pictures(evaluation / "evaluation_folder") == before
    assert sorted(pictures(evaluation / "sorted").values()) == sorted(before.values())


def test_a_kill_in_between_is_made_good_and_another_picture_is_kept(evaluation):
    folder = evaluation / "evaluation_folder" / "eval"
    (folder / "2").mkdir()
    os.link(folder / "0_0.png", folder / "2" / "0_0.png")  # moved, but not yet gone from here
    draw(folder / "2" / "1_0.png", 2, 3, 0)
    before = pictures(folder)
    assert "is another picture" in refused(run(MOVE, cwd=evaluation))
    assert not (folder / "0_0.png").exists() and pictures(folder)["2/0_0.png"] == before["0_0.png"]
    assert set(before.values()) == set(pictures(folder).values())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--path", "nowhere"), "no folder of images nowhere"),
        (("--path", "."), "holds no pictures"),
        (("--per_class", 0), "--per_class must be at least 1"),
        (("--per_class", 50, "--prompts_path", "x.csv"), "not allowed with"),
        (("--rules", "v3"), "invalid choice"),
        (("--per_class", 50, "--classes", "x.csv"), "--classes is about prompts"),
        (("--prompts_path", "nowhere.csv"), "no such file"),
        (("--prompts_path", "short.csv"), "case 1 is not in short.csv"),
        (("--prompts_path", ROOT / "data" / "object_classify.csv"), "is of no class"),
    ],
)
def test_mistakes_of_move_image(evaluation, flags, message):
    (evaluation / "short.csv").write_text("case_number,prompt\n0,Picasso\n")
    before = files(evaluation)
    assert message in refused(run(MOVE, *flags, cwd=evaluation))
    assert files(evaluation) == before
