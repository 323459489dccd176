"""Names of images for the rows of a whole prompt file: none is another's, whatever the prompts hold."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.generation.presets import NAMINGS
from erasure.generation.presets import settings as preset
from erasure.generation.rows import of_row, told_apart, write_index
from erasure.prompts import Row

CPE = preset("cpe", num_samples=2)


def files(rows, s=CPE):
    return [[NAMINGS[s.naming](row, k) for k in range(s.num_samples)] for row in rows]


def test_repeats_have_one_image_and_namesakes_their_own():
    rows = [Row(0, "a/b", 1), Row(1, "a_b", 1), Row(2, "a/b", 1), Row(3, "a\nb", 1), Row(4, "A/B", 1), Row(5, "a/b", 2)]
    own = told_apart(rows, CPE)
    assert own[2] is own[0] and [row.prompt for row in own] == [row.prompt for row in rows]
    assert [names[1] for names in files(own)] == [
        "a_b_1_1.png", "a_b_row1_1_1.png", "a_b_1_1.png", "ab_1_1.png", "A_B_row4_1_1.png", "a_b_2_1.png"
    ]  # fmt: skip
    assert told_apart(rows[:1] + rows[2:], CPE)[0].mark == ""


def test_a_guidance_that_counts_makes_another_image():
    rows = [Row(7, "a", 1, evaluation_guidance=3.0), Row(7, "a", 1, evaluation_guidance=4.0)]
    assert told_apart(rows, CPE)[1] is rows[0]
    explicit = preset("cpe-explicit", image_size=8)
    assert files(told_apart(rows, explicit), explicit) == [["7_a_1_0.png"], ["7_a_row1_1_0.png"]]
    assert of_row(rows[1], explicit) == (4.0, 8, 8)


def test_token_ids_make_another_image_of_the_same_prompt():
    rows = [Row(0, "a", 1), Row(1, "a", 1, token_ids=(320,)), Row(2, "a", 1, token_ids=(320,)), Row(3, "a", 1)]
    own = told_apart(rows, CPE)
    assert own[3] is own[0] and own[2] is own[1] and own[1].mark == "_row1"


TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("/\n_ \\.aA"), max_size=6)
ROWS = st.lists(
    st.builds(Row, st.integers(0, 2), TEXT | st.sampled_from(["x" * 300, "x" * 301]), st.integers(1, 2)), max_size=12
)


@pytest.mark.parametrize("name", ["cpe", "cpe-explicit", "mace", "esd"])
@given(rows=ROWS)
def test_no_two_images_share_a_name(name, rows):
    """Rows are the same image or have no name in common, on a disk that minds case or not; none leaves the folder."""
    s = preset(name, num_samples=2)
    own = told_apart(rows, s)
    once = list({id(row): row for row in own}.values())
    names = [file for row in files(once, s) for file in row]
    assert len({file.casefold() for file in names}) == len(names)
    for row, drawn in zip(rows, own, strict=True):
        assert (row.prompt, row.evaluation_seed) == (drawn.prompt, drawn.evaluation_seed)
    for file in names:
        assert len(file.encode()) <= 231 and not {*file} & {*"/\\\n\r\0"} and file.endswith(".png")


def test_the_index_lists_what_is_there(tmp_path):
    rows = [Row(9, "a, b", 1), Row(4, "c", 1), Row(2, "a, b", 1)]
    own = told_apart(rows, CPE)
    for file in ("a,_b_1_0.png", "a,_b_1_1.png"):
        (tmp_path / file).touch()
    assert write_index(tmp_path, rows, own, CPE) == 2
    with open(tmp_path / "index.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["case_number"], line["k"], line["file"]) for line in lines] == [
        (position, case, k, f"a,_b_1_{k}.png") for position, case in (("0", "9"), ("2", "2")) for k in "01"
    ]
    assert {(line["prompt"], line["evaluation_seed"]) for line in lines} == {("a, b", "1")}
