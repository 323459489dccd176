"""Class lists, the family's prompt sets, the split of the pictures, and placing them without loss."""

import csv

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.prompts import read_csv
from erasure.runs import ROOT
from methods.sepce import OBJECTS, STYLES, class_lists
from methods.sepce.data_layout import split
from methods.sepce.placing import link, move, same

DATA = ROOT / "data"


@pytest.mark.parametrize(("name", "prompts"), [("style_classify", STYLES), ("object_classify", OBJECTS)])
def test_published_prompt_sets(name, prompts):
    """450 rows of the published columns: 50 cases of each prompt, in the order of the published lists; the same seeds."""
    with open(DATA / f"{name}.csv", newline="") as file:
        assert next(csv.reader(file)) == ["", "prompt", "evaluation_seed", "case_number"]
    rows = read_csv(DATA / f"{name}.csv")
    assert [row.case_number for row in rows] == [int(row.extra[""]) for row in rows] == list(range(450))
    assert [row.prompt for row in rows] == [prompt for prompt in prompts for _ in range(50)]
    seeds = [row.evaluation_seed for row in rows]
    assert (min(seeds), max(seeds)) == (4, 4999) and seeds[:2] == [3141, 4998] and seeds[-2:] == [1245, 1244]
    assert seeds == [row.evaluation_seed for row in read_csv(DATA / "style_classify.csv")]


def test_evaluate_csv_is_the_style_set():
    assert (DATA / "evaluate.csv").read_bytes() == (DATA / "style_classify.csv").read_bytes()


@pytest.mark.parametrize("classes", ["artist_classes", "artist_classes_toy"])
def test_every_evaluation_prompt_has_a_class(classes):
    known = class_lists.read(DATA / f"{classes}.csv")
    assert len(known) == 10 and known.of("Van Gogh").index == known.of("vincent van gogh").index == 0
    for name in ("evaluate", "evaluate_toy"):
        found = {row.prompt: known.of(row.prompt).index for row in read_csv(DATA / f"{name}.csv")}
        assert sorted(found.values()) == list(range(9))
    assert known.of("KeithHaring").prompt == "Keith Haring"


def test_the_embedded_model_gets_names_it_knows():
    from toyworld import captions
    from toyworld.concepts import STYLES as PAINTERS

    for row in read_csv(DATA / "evaluate_toy.csv"):
        assert row.prompt.lower() in PAINTERS
    *artists, neutral = class_lists.read(DATA / "artist_classes_toy.csv")
    assert all(one.prompt.lower() in PAINTERS for one in artists) and neutral.prompt in captions.ANY_OBJECT


def test_objects_are_those_of_the_published_script():
    classes = class_lists.read(DATA / "object_classes.csv")
    assert [one.prompt for one in classes] == list(OBJECTS)
    indices = [int(one.extra["imagenet_index"]) for one in classes]
    assert indices == [491, 497, 571, 0, 569, 217, 574, 701, 566]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("index,name\n0,a\n", "no column prompt"),
        ("index,prompt\n", "no classes"),
        ("index,prompt\n0,a\n0,b\n", "indices must be 0 to 1"),
        ("index,prompt\n1,a\n2,b\n", "indices must be 0 to 1"),
        ("index,prompt\n-1,a\n", "'-1' is not a whole number"),
        ("index,prompt\n0,Van Gogh\n1,vangogh\n", "in class 0 and in class 1"),
        ("index,prompt,aliases\n0,a,x;y\n1,b,Y\n", "in class 0 and in class 1"),
    ],
)
def test_bad_lists(tmp_path, text, message):
    (tmp_path / "classes.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        class_lists.read(tmp_path / "classes.csv")


def test_no_prompt_is_a_class_and_unknown_ones_are_refused():
    classes = class_lists.read(DATA / "artist_classes.csv")
    assert classes.of("").index == 9 and classes.of("").name == "(no prompt)"
    with pytest.raises(UserError, match="'golf ball' is of no class"):
        classes.of("golf ball")
    assert class_lists.ClassList.from_list(classes.to_list()).to_list() == classes.to_list()


@given(st.sets(st.integers(0, 10**6), min_size=1, max_size=200), st.floats(0.01, 0.99))
def test_split(cases, share):
    training, held_out = split(cases, share)
    assert sorted([*training, *held_out]) == sorted(cases) and abs(len(training) - share * len(cases)) <= 0.5 + 1e-9
    assert not training or not held_out or max(training) < min(held_out)


def test_the_published_split():
    assert split(range(1000), 0.7) == (list(range(700)), list(range(700, 1000)))


def test_placing(tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "b").write_text("two")
    assert link(tmp_path / "a", tmp_path / "x" / "a") and not link(tmp_path / "a", tmp_path / "x" / "a")
    assert (tmp_path / "x" / "a").samefile(tmp_path / "a")
    assert link(tmp_path / "a", tmp_path / "y", copy=True) and not (tmp_path / "y").samefile(tmp_path / "a")
    assert same(tmp_path / "y", tmp_path / "a") and not same(tmp_path / "a", tmp_path / "b")
    for place in (link, move):
        with pytest.raises(UserError, match="another picture"):
            place(tmp_path / "b", tmp_path / "x" / "a")
    assert (tmp_path / "b").read_text() == "two" and (tmp_path / "x" / "a").read_text() == "one"
    assert move(tmp_path / "b", tmp_path / "z" / "b") and not (tmp_path / "b").exists()
    assert not move(tmp_path / "y", tmp_path / "x" / "a") and not (tmp_path / "y").exists()


def test_links_that_cannot_be_are_copies(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("one")
    monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    assert link(tmp_path / "a", tmp_path / "b") and (tmp_path / "b").read_text() == "one"
    assert move(tmp_path / "a", tmp_path / "c") and not (tmp_path / "a").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c"]
