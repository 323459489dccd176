"""The quickstart's prompts and the comparison it draws from two judged folders."""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from erasure.metrics.judging import Judgement
from toyworld.comparison import compare, groups, strips
from toyworld.concepts import OBJECTS, PEOPLE, STYLES
from toyworld.prompts import CONCEPTS, SITTERS, as_csv, quickstart_rows

DATA = Path(__file__).resolve().parents[2] / "data"


def test_the_shipped_csv_is_what_the_command_writes():
    assert (DATA / "quickstart.csv").read_text() == as_csv(quickstart_rows())


@pytest.mark.parametrize("concept", CONCEPTS)
def test_prompts_cover_the_target_and_the_rest(concept):
    rows = list(csv.DictReader(io.StringIO(as_csv(quickstart_rows(concept)))))
    count = Counter(row["concept"] for row in rows)
    assert {row["concept"] for row in rows[:10]} == {concept} and count.pop(concept) == 10
    assert set(count.values()) == {2} and set(count) == {*STYLES, *OBJECTS, *SITTERS} - {concept}
    assert [row["case_number"] for row in rows] == [str(i) for i in range(len(rows))]
    assert len({row["evaluation_seed"] for row in rows}) == len(rows)
    assert all(row["concept"] in row["prompt"] for row in rows)


def test_an_unknown_concept_is_refused():
    with pytest.raises(ValueError, match="no concept 'vermeer'"):
        quickstart_rows("vermeer")


def judgement(case, kind, concept, answer, k=0):
    return Judgement(
        case_number=case, k=k, file=f"{case}_{k}.png", prompt=f"{concept}, please", concept_kind=kind, concept=concept,
        style=answer if kind == "style" else "photo", style_p=1.0, subject="church" if kind == "style" else answer,
        subject_p=1.0, shown=answer == concept,
    )  # fmt: skip


def judged(target_answer, other_answer):
    return [
        judgement(0, "style", "van gogh", target_answer),
        judgement(1, "style", "van gogh", target_answer),
        judgement(2, "style", "picasso", "picasso"),
        judgement(3, "style", "picasso", other_answer),
        judgement(4, "style", "cezanne", "cezanne"),
        judgement(5, "object", "tench", "tench"),
        judgement(6, "person", PEOPLE[0], PEOPLE[0]),
    ]


def test_scores_come_by_group_with_the_target_first():
    scores = compare(judged("van gogh", "picasso"), judged("photo", "cezanne"), "van gogh")
    assert [s.label for s in scores] == ["Van Gogh", "other styles", "objects", "people"]
    assert [s.goal for s in scores] == ["erase", "keep", "keep", "keep"]
    assert [s.before.value for s in scores] == [1, 1, 1, 1]
    assert [s.after.value for s in scores] == [0, pytest.approx(2 / 3), 1, 1]
    assert list(groups(judged("photo", "photo"), "tench")) == ["Tench", "styles", "people"]


def test_strips_pair_pictures_and_mark_what_is_unwanted(tmp_path):
    folders = tmp_path / "before", tmp_path / "after"
    for level, folder in enumerate(folders):
        folder.mkdir()
        for case in range(7):
            Image.fromarray(np.full((4, 4, 3), 100 * level + case, np.uint8)).save(folder / f"{case}_0.png")
    shown = strips(judged("van gogh", "picasso"), judged("photo", "cezanne"), folders, "van gogh")
    assert [s.title for s in shown] == ["Van Gogh", "Other styles", "Objects", "People"]
    target, others = shown[0].pictures, shown[1].pictures
    assert all(p.good_before and p.good_after and p.judged_after == "photo" for p in target)
    # each style once before the second picasso, which became a cezanne
    assert [p.before.getpixel((0, 0))[0] for p in others] == [2, 4, 3]
    assert [p.after.getpixel((0, 0))[0] for p in others] == [102, 104, 103]
    assert [p.good_after for p in others] == [True, True, False]
    failed = strips(judged("van gogh", "picasso"), judged("van gogh", "picasso"), folders, "van gogh", most=1)
    assert [len(s.pictures) for s in failed] == [1, 1, 1, 1] and not failed[0].pictures[0].good_after
