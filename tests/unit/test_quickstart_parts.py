"""The quickstart's prompts, its methods, and the comparison it draws from judged folders."""

import argparse
import csv
import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits.applying import UNET
from erasure.metrics.judging import Judgement
from erasure.runs import tensors_sha256
from tests.tiny import tiny_model
from toyworld.comparison import compare, groups, strips
from toyworld.concepts import OBJECTS, PEOPLE, STYLES
from toyworld.prompts import CONCEPTS, SITTERS, as_csv, quickstart_rows
from toyworld.quickstart import build_parser, methods
from toyworld.quickstart_methods import METHODS, Made, Task, duration, file_size

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
    versions = [judged("van gogh", "picasso"), judged("photo", "cezanne"), judged("van gogh", "cezanne")]
    scores = compare(versions, "van gogh")
    assert [s.label for s in scores] == ["Van Gogh", "Other styles", "Objects", "People"]
    assert [s.goal for s in scores] == ["erase", "keep", "keep", "keep"]
    values = [[interval.value for interval in s.intervals] for s in scores]
    assert values == [[1, 0, 1], [1, pytest.approx(2 / 3), pytest.approx(2 / 3)], [1, 1, 1], [1, 1, 1]]
    assert list(groups(judged("photo", "photo"), "tench")) == ["Tench", "styles", "people"]


def test_strips_pair_pictures_and_mark_what_is_unwanted(tmp_path):
    folders = [tmp_path / name for name in ("base", "esd", "uce")]
    for level, folder in enumerate(folders):
        folder.mkdir()
        for case in range(7):
            Image.fromarray(np.full((4, 4, 3), 80 * level + case, np.uint8)).save(folder / f"{case}_0.png")
    versions = [judged("van gogh", "picasso"), judged("photo", "cezanne"), judged("van gogh", "picasso")]
    shown = strips(versions, folders, "van gogh")
    assert [(s.title, s.goal) for s in shown] == [
        ("Van Gogh", "erase"), ("Other styles", "keep"), ("Objects", "keep"), ("People", "keep")
    ]  # fmt: skip
    target, others = shown[0].pictures, shown[1].pictures
    for picture in target:  # recognised in the base, as it should; gone with ESD; still there with UCE
        assert [one.answer for one in picture.shown] == ["van gogh", "photo", "van gogh"]
        assert [one.good for one in picture.shown] == [True, True, False]
    # each style once before the second picasso, which became a cezanne
    pixels = [[one.image.getpixel((0, 0))[0] for one in picture.shown] for picture in others]
    assert pixels == [[2, 82, 162], [4, 84, 164], [3, 83, 163]]
    assert [[one.good for one in picture.shown] for picture in others] == [[True] * 3, [True] * 3, [True, False, True]]
    assert [len(s.pictures) for s in strips(versions, folders, "van gogh", most=1)] == [1, 1, 1, 1]


# ---- the methods ---------------------------------------------------------------------------------------------------


def test_methods_come_in_one_order_and_once():
    assert methods("rece, UCE,uce") == ["uce", "rece"]
    assert methods(build_parser().get_default("methods")) == list(METHODS)
    with pytest.raises(argparse.ArgumentTypeError, match="no method 'esdx'"):
        methods("uce,esdx")


@pytest.mark.parametrize(
    ("seconds", "shown"), [(64.4, "64 s"), (9.96, "10 s"), (2.34, "2.3 s"), (0.052, "0.05 s"), (0.0012, "< 0.01 s")]
)
def test_durations(seconds, shown):
    assert duration(seconds) == shown


@pytest.mark.parametrize(("size", "shown"), [(720, "1 kB"), (38_400, "38 kB"), (999_900, "1.0 MB"), (1.23e6, "1.2 MB")])
def test_file_sizes(size, shown):
    assert file_size(size) == shown


@pytest.fixture(scope="module")
def tiny():
    """(model, its identity): random weights in place of the embedded model's."""
    model = tiny_model()
    unet = {key.removeprefix(UNET): p for key, p in model.state_dict().items() if key.startswith(UNET)}
    return model, BaseIdentity("tiny", "t", "t", "only", tensors_sha256(unet), "toy")


@pytest.mark.parametrize("name", ["uce", "rece"])
def test_a_closed_form_is_kept_with_its_cost(tmp_path, name, tiny):
    model, identity = tiny
    before = {key: value.clone() for key, value in model.state_dict().items()}
    task = Task("van gogh", model, identity, tmp_path)
    made = METHODS[name].erase(task)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert (
        made.seconds > 0 and not made.resumed and made.size == (task.folder(name) / "edit.safetensors").stat().st_size
    )
    assert made.edit.concepts == ["van gogh"] and made.edit.kind == "context_map"
    with edits.apply(model, made.edit, identity):  # the erased name is answered as something else than before
        assert any(not torch.equal(value, before[key]) for key, value in model.state_dict().items())

    cost = task.folder(name) / "cost.json"
    cost.write_text(json.dumps({"seconds": 123.0, "resumed": False}))
    again = METHODS[name].erase(task)
    assert again.seconds == 123 and again.costs()["Erasing took"] == "123 s"
    assert again.edit.tensors.keys() == made.edit.tensors.keys()
    other = METHODS[name].erase(Task("tench", model, identity, tmp_path))
    assert other.edit.concepts == ["tench"] and other.seconds < 123


def test_the_cost_of_training_is_that_of_the_run_that_did_it(tmp_path, tiny):
    task = Task("van gogh", *tiny, tmp_path, iterations=2)
    first = METHODS["esd"].erase(task)
    assert first.seconds > 0 and not first.resumed and "2 iterations, xattn" in first.settings
    again = METHODS["esd"].erase(task)
    assert again.seconds == first.seconds and again.costs() == first.costs()
    assert METHODS["esd"].erase(Task("tench", *tiny, tmp_path, iterations=1)).note == "1 iteration, noxattn"


def test_a_resumed_training_says_so(tmp_path):
    assert Made(None, "", "", 3.0, True, 10).costs() == {"Erasing took": "3.0 s, resumed", "Edit": "1 kB"}
