"""Which prompt a picture was drawn from: lists first, then file names as the published generators wrote them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from erasure.errors import UserError
from erasure.metrics.image_prompts import NameTable, match
from erasure.prompts import Row

prompts = st.lists(
    st.text(st.sampled_from("ab 1-/_,.'é\n"), min_size=1, max_size=30), min_size=1, max_size=6, unique=True
)


def table(*texts, seeded=True):
    return NameTable([Row(case, text, 10 + case) for case, text in enumerate(texts)], seeded)


def folder_of(path, *names):
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.new("RGB", (4, 4)).save(path / name)
    return path


# ---- names ---------------------------------------------------------------------------------------------------------


def test_a_prompt_is_not_found_in_a_longer_one():
    """The published script took the first prompt that is a part of the name."""
    found = table("a cat", "a cat on a mat", "on a mat")
    assert found.prompt_of("a_cat_on_a_mat_11_0") == "a cat on a mat"
    assert found.prompt_of("a-cat_10_0") == "a cat" and found.prompt_of("a cat_10") == "a cat"
    assert found.prompt_of("my_a_cat_10_0") is None and found.prompt_of("a_cat_on_10_0") is None


def test_a_prompt_that_ends_in_numbers():
    found = table("gate", "gate 10", "gate 10 1")
    assert (
        found.prompt_of("gate_10_11_0") == "gate 10"
        and found.prompt_of("gate_10_0") == "gate"
        and found.prompt_of("gate_10_1_12_3") == "gate 10 1"
    )
    assert found.prompt_of("gate_10_11") == "gate 10"  # MACE: without a number of the image


def test_line_breaks_and_slashes():
    found = table("a dog\nruns", "black/white")
    assert found.prompt_of("a_dogruns_10_0") == found.prompt_of("a_dog\nruns_10_0") == "a dog\nruns"
    assert found.prompt_of("black_white_11_0") == "black/white"


def test_prompts_that_look_the_same_are_told_apart_by_seed_or_spelling():
    found = table("a-b", "a b")
    assert found.prompt_of("a_b_10_0") == "a-b" and found.prompt_of("a_b_11_0") == "a b"
    assert found.prompt_of("a b_99_0") == "a b" == found.prompt_of("a_b_99_0")
    assert found.prompt_of("a-b_99_0") is None  # either, with one blank or the other
    assert table("a-b", "a/b", seeded=False).prompt_of("a_b_1_0") is None


def test_names_by_case_and_by_the_start_of_a_prompt():
    long = "a very long prompt/about many things"
    found = table("a cat", long, long + " and others")
    assert found.prompt_of("0_3") == "a cat" and found.prompt_of("7_0") is None
    start = long[:20].replace("/", "").replace(" ", "-")
    assert found.prompt_of(f"1_{start}_11_0") == long and found.prompt_of(f"2_{start}_12_0") == long + " and others"
    assert found.prompt_of(f"9_{start}_12_0") == long + " and others"  # published: one number for all cases
    assert found.prompt_of(f"9_{start}_99_0") is None


@given(prompts, st.integers(0, 3), st.sampled_from(["_", "-", " "]))
def test_the_generators_names_are_found(texts, k, blank):
    """Unless two prompts look the same in file names."""
    found = table(*texts)
    for case, text in enumerate(texts):
        name = text.replace("\n", "").replace("/", "_").replace(" ", blank)
        prompt = found.prompt_of(f"{name}_{10 + case}_{k}")
        if len({t.replace("\n", "").replace("/", "_").replace("-", "_").replace(" ", "_") for t in texts}) == len(
            texts
        ):
            assert prompt == text


# ---- folders -------------------------------------------------------------------------------------------------------


def test_a_list_counts_before_names(tmp_path):
    folder = folder_of(tmp_path / "images", "a_cat_1_0.png", "x.png", "new.png")
    (tmp_path / "p.csv").write_text("prompt,evaluation_seed\na cat,1\n")
    manifest = {"images": {"x.png": {"prompt": "a dog"}, "a_cat_1_0.png": {"prompt": "a cat"}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    found = match(folder)
    assert [(p.file.name, p.prompt) for p in found.pairs] == [("a_cat_1_0.png", "a cat"), ("x.png", "a dog")]
    assert found.unmatched == ["new.png"] and found.source == "manifest.json"
    (folder / "index.csv").write_text(
        'row,case_number,k,file,prompt,evaluation_seed\n0,0,0,x.png,"a\ncat",1\n1,1,0,gone.png,b,2\n'
    )
    found = match(folder)
    assert [(p.file.name, p.prompt) for p in found.pairs] == [("x.png", "a\ncat")] and found.missing == ["gone.png"]
    assert "2 images match no prompt of index.csv" in found.problems()[0] and "gone.png" in found.problems()[1]


def test_a_csv_chooses_among_a_lists_images(tmp_path):
    folder = folder_of(tmp_path / "images", "0.png", "1.png")
    (folder / "index.csv").write_text("file,prompt\n0.png,a cat\n1.png,a dog\n")
    (tmp_path / "p.csv").write_text("prompt\na dog\n")
    found = match(folder, tmp_path / "p.csv")
    assert [p.file.name for p in found.pairs] == ["1.png"] and found.unmatched == ["0.png"]


def test_names_against_a_csv(tmp_path):
    folder = folder_of(tmp_path / "images", "a_cat_1_0.png", "a_cat_on_a_mat_1_0.png", "2_0.jpg")
    (tmp_path / "p.csv").write_text("case_number,prompt,evaluation_seed\n1,a cat,1\n2,None,5\n")
    found = match(folder, tmp_path / "p.csv")
    assert [(p.file.name, p.prompt) for p in found.pairs] == [("2_0.jpg", "None"), ("a_cat_1_0.png", "a cat")]
    assert found.unmatched == ["a_cat_on_a_mat_1_0.png"]
    with pytest.raises(UserError, match="--prompts_path"):
        match(folder)
    (tmp_path / "other.csv").write_text("prompt\na bird\n")
    with pytest.raises(UserError, match="no image of"):
        match(folder, tmp_path / "other.csv")
    with pytest.raises(
        UserError, match="not part of this repository: python data/import_prompts.py coco_30k_case FILE"
    ):
        match(folder, tmp_path / "coco_30k.csv")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("index.csv", "row,prompt\n0,a\n", "no columns file and prompt"),
        ("manifest.json", "[]", "is not a list of generated"),
    ],
)
def test_lists_that_are_none(tmp_path, name, text, message):
    folder = folder_of(tmp_path / "images", "0_0.png")
    (folder / name).write_text(text)
    with pytest.raises(UserError, match=message):
        match(folder)
