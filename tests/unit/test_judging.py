"""Judging a folder: the right file meets the right row and the right answer."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from erasure.errors import UserError
from erasure.metrics.judging import judge_folder, judge_to_files, summary


def row(case, kind="style", concept="van gogh", **extra):
    return SimpleNamespace(
        case_number=case, prompt=f"case {case}", extra={"concept_kind": kind, "concept": concept, **extra}
    )


def grey_judge(images):
    """Names what the grey level says: 10 van gogh, 20 picasso; a church if it is bright."""
    return [
        {"style": {10: "van gogh", 20: "picasso"}.get(int(i[0, 0, 0]), "photo"), "subject": "church", "style_p": 0.9}
        for i in images
    ]


def paint(folder, name, level, size=8):
    Image.fromarray(np.full((size, size, 3), level, np.uint8)).save(folder / name)


@pytest.fixture
def folder(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for name, level in {"2_0.png": 10, "2_1.png": 20, "10_0.png": 20, "3_0.png": 30, "99_0.png": 10}.items():
        paint(images, name, level)
    (images / "manifest.json").write_text("{}")
    return images


def test_images_meet_their_rows_in_order(folder):
    rows = [row(10, concept="picasso"), row(2), row(3, "object", "church")]
    judged = judge_folder(folder, rows, grey_judge)
    assert [(j.case_number, j.k, j.shown, j.answer) for j in judged] == [
        (10, 0, True, "picasso"),
        (2, 0, True, "van gogh"),
        (2, 1, False, "picasso"),
        (3, 0, True, "church"),
    ]
    assert judged[0].style_p == 0.9 and judged[0].subject_p is None


def test_summary_counts_by_kind_and_concept(folder):
    scores = summary(judge_folder(folder, [row(10, concept="picasso"), row(2), row(3, "object", "tench")], grey_judge))
    assert scores["kinds"]["style"]["value"] == pytest.approx(2 / 3) and scores["kinds"]["style"]["n"] == 3
    assert scores["concepts"]["object"]["tench"]["value"] == 0
    assert scores["concepts"]["style"]["van gogh"]["value"] == 0.5
    json.dumps(scores, allow_nan=False)


def test_files_hold_every_image_and_the_judge(folder, tmp_path):
    rows = [row(2), row(10, concept="picasso")]
    judge_to_files(folder, rows, grey_judge, tmp_path / "j.csv", tmp_path / "j.json", {"name": "grey"})
    with open(tmp_path / "j.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["file"] for line in lines] == ["2_0.png", "2_1.png", "10_0.png"]
    assert [line["shown"] for line in lines] == ["True", "False", "True"]
    assert json.loads((tmp_path / "j.json").read_text())["judge"] == {"name": "grey"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(4)], "no image of case 4"),
        ([row(2, kind="smell")], "unknown concept_kind 'smell'"),
        ([row(2, concept="")], "columns concept_kind and concept"),
    ],
)
def test_mistakes_are_one_clear_line(folder, rows, message):
    with pytest.raises(UserError, match=message):
        judge_folder(folder, rows, grey_judge)


def test_unreadable_and_unequal_images_are_named(folder):
    (folder / "5_0.png").write_bytes(b"not a picture")
    with pytest.raises(UserError, match="5_0.png is not an image"):
        judge_folder(folder, [row(5)], grey_judge)
    paint(folder, "6_0.png", 10, size=9)
    with pytest.raises(UserError, match="6_0.png has another size"):
        judge_folder(folder, [row(2), row(6)], grey_judge)
    with pytest.raises(UserError, match="no folder"):
        judge_folder(folder / "nowhere", [row(2)], grey_judge)
