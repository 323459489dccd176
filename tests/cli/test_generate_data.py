"""generate-data.py: many images of one prompt, with seeds that can be repeated."""

import csv

import pytest

from tests.cli import generation_place as place_
from tests.cli.generation_place import BASE, files, pictures, refused

QUICK = (*BASE, "--prompt", "Van Gogh", "--ddim_steps", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    place_.fill(folder)
    return folder


def run(*arguments, cwd):
    return place_.run("generate-data.py", *arguments, cwd=cwd)


def seeds(folder) -> list[tuple[int, str, int]]:
    with open(folder / "seeds.csv", newline="") as file:
        return [(int(r["case_number"]), r["prompt"], int(r["evaluation_seed"])) for r in csv.DictReader(file)]


def test_a_label_draws_the_base_model(place):
    """As in the published command line, `--model_name 0` is only the folder; and the prompt stays what it is."""
    result = run(*QUICK, "--model_name", "0", "--save_path", "a", "--num_images", 4, "--num_samples", 2, cwd=place)
    assert result.returncode == 0, result.stderr
    assert "'0'" in result.stderr and "base model" in result.stderr
    assert set(pictures(place / "a" / "0")) == {f"{case}_{k}.png" for case in range(4) for k in range(2)}
    rows = seeds(place / "a" / "0")
    assert [row[:2] for row in rows] == [(case, "Van Gogh") for case in range(4)]
    assert all(0 <= seed <= 3000 for *_, seed in rows)


def test_seeds_can_be_repeated(place):
    for save_path, *flags in (("b", "--seed", 1), ("c", "--seed", 1), ("d", "--seed", 2), ("e", "--sequential_seeds")):
        result = run(*QUICK, "--model_name", "original", "--save_path", save_path, "--num_images", 2, *flags, cwd=place)
        assert result.returncode == 0, result.stderr
    assert files(place / "b") == files(place / "c") != files(place / "d")
    assert [seed for *_, seed in seeds(place / "e" / "original")] == [0, 1]


def test_parts_have_the_seeds_of_the_whole(place):
    flags = (*QUICK, "--model_name", "original", "--save_path", "f", "--num_images", 3)
    assert run(*flags, "--from_case", 2, cwd=place).returncode == 0
    assert set(pictures(place / "f")) == {"original/2_0.png"}
    result = run(*flags, cwd=place)
    assert "2 images made, 1 kept" in result.stdout


def test_an_edited_model(place):
    result = run(*QUICK, "--model_name", "compvis-run", "--save_path", "g", "--num_images", 1, cwd=place)
    assert result.returncode == 0 and "esd edit" in result.stdout, result.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--model_name", "typo", "--no-allow_base"), "no model 'typo'"),
        (("--model_name", "original", "--num_images", "0"), "no images to draw"),
        (("--model_name", "original", "--from_case", "5000"), "no images to draw"),
        (("--model_name", "x/y",), "cannot name a folder"),
        (("--model_name", "original", "--edit", "typo.pt"), "no model 'typo.pt'"),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_line(place, flags, message):
    assert message in refused(run(*QUICK, "--save_path", "mistakes", *flags, cwd=place))
    assert not (place / "mistakes").exists()
