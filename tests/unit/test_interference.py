"""Groups of edits in a model: selections, ways back, and what is made of judgements."""

import csv
from itertools import count

import pytest
import torch
from PIL import Image

from erasure import edits
from erasure.edits import ContextMap, Part, context_projections, separable
from erasure.edits.applying import UNET
from erasure.errors import UserError
from erasure.interference import (
    Group,
    Measured,
    Member,
    checks,
    how_together,
    members,
    presenting,
    read_members,
    restoring,
    selections,
)
from erasure.interference.command import judging, read_groups
from erasure.metrics.judging import Judgement
from erasure.report import to_html, to_image
from tests.gates import gate_edit, identity_of, save_gates
from tests.tiny import tiny_model

CONCEPTS = ("van gogh", "golf ball", "adam driver")


@pytest.fixture(scope="module")
def model():
    return tiny_model().requires_grad_(False)


@pytest.fixture(scope="module")
def base(model):
    return identity_of(model)


def random(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def of_kind(kind, model, base, concept, seed):
    """A random edit of one concept."""
    weights = {name.removeprefix(UNET): w for name, w in context_projections(model).items()}
    if kind == "residual_gates":
        return gate_edit(model, base, concept, seed=seed)
    if kind == "separable":
        basis = torch.nn.functional.normalize(random(seed, 3, 32), dim=1)
        w = {name: 0.1 * random(seed, len(weight), 3) for name, weight in weights.items()}
        return separable([Part(concept, basis, w, 0.5, ("",))], base.to_dict())
    if kind == "context_map":
        tensors = ContextMap(0.1 * random(seed, 2, 32), random(seed + 1, 2, 32)).tensors()
    else:
        tensors = {name: w + 0.1 * random(seed, *w.shape) for name, w in list(weights.items())[seed % 2 :]}
    return edits.Edit(kind, [concept], {}, base.to_dict(), tensors, kind)


KINDS = ("context_map", "tensors", "separable", "residual_gates")


def group(model, base, *kinds):
    made = zip(kinds, CONCEPTS, count(), strict=False)
    return Group("+".join(dict.fromkeys(kinds)), [Member(of_kind(k, model, base, c, n)) for k, c, n in made])


def test_selections():
    kinds = [[s.kind for s in selections(n)] for n in (1, 2, 3)]
    assert kinds[0] == ["base", "all"]
    assert kinds[1] == ["base", "alone", "alone", "all"]
    assert kinds[2] == ["base", *["alone"] * 3, "all", *["all but"] * 3]
    assert [s.chosen for s in selections(3)] == [(), (0,), (1,), (2,), (0, 1, 2), (1, 2), (0, 2), (0, 1)]


def test_selections_have_folders_of_their_own(model, base):
    three = group(model, base, *["context_map"] * 3)
    folders = [str(s.folder(three)) for s in selections(3)]
    assert len({*folders}) == 8 and folders[0] == "base" and folders[1] == "context_map/alone-van-gogh"


def test_two_edits_of_a_concept_are_refused(model, base):
    edit = of_kind("context_map", model, base, "church", 0)
    with pytest.raises(UserError, match="church is erased by two"):
        Group("two", [Member(edit), Member(edit)])
    with pytest.raises(UserError, match="no edits"):
        Group("none", [])


@pytest.mark.parametrize(
    "kinds", [*([kind] * 3 for kind in KINDS), KINDS[:3], ["residual_gates", "tensors", "residual_gates"]]
)
def test_ways_back_are_exact_for_every_kind_and_for_mixed_ones(model, base, kinds):
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = checks(model, base, group(model, base, *kinds), CONCEPTS, progress=False)
    assert [check.name for check in found] == ["all taken out", *(f"{c} left out" for c in CONCEPTS)]
    assert all(check.weights and check.outputs for check in found)
    assert found[0].remaining is None and all(check.remaining > 0 for check in found[1:])  # the others are felt
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())


def test_a_way_back_that_is_not_exact_is_told(model, base, monkeypatch):
    monkeypatch.setattr(restoring, "without", lambda whole, left_out: whole)  # leaves nothing out
    found = checks(model, base, group(model, base, "separable", "separable"), CONCEPTS[:2], progress=False)
    assert [check.exact for check in found] == [True, False, False]


def test_two_gates_become_one_edit_and_others_follow_one_another(model, base):
    mixed = group(model, base, "residual_gates", "tensors", "residual_gates")
    applied = members.together(mixed.edits(selections(3)[4]))
    assert [edit.concepts for edit in applied] == [["van gogh", "adam driver"], ["golf ball"]]
    assert "the largest counts" in how_together(mixed)
    tensors = group(model, base, "tensors", "tensors")
    shared = len(context_projections(model)) - 1
    assert how_together(tensors) == f"changes of weights added up, {shared} tensors in several edits"


def test_edits_are_read_with_their_costs_and_gates_one_a_concept(model, base, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    edits.save_run(of_kind("context_map", model, base, "church", 0), tmp_path / "run", seconds=3.5)
    [one] = read_members("run")
    assert (one.name, one.seconds) == ("church", 3.5) and one.size == (tmp_path / "run/edit.safetensors").stat().st_size
    save_gates(model, base.to_dict(), tmp_path / "gates", "drake", "adam driver")
    assert [m.name for m in read_members("gates")] == ["adam driver", "drake"]
    both = edits.compose([of_kind("separable", model, base, c, n) for n, c in enumerate(CONCEPTS[:2])])
    edits.save_run(both, tmp_path / "parts", seconds=4)
    assert [(m.name, m.seconds) for m in read_members("parts")] == [(c, 2.0) for c in CONCEPTS[:2]]
    assert [g.name for g in read_groups([["run"], ["gates"], ["run", "parts"]])] == [
        "CONTEXT_MAP",
        "CPE",
        "CONTEXT_MAP+SEPCE",
    ]
    assert [g.name for g in read_groups([["run"], ["run"]])] == ["CONTEXT_MAP", "CONTEXT_MAP (2)"]
    with pytest.raises(UserError, match="nothing"):
        read_members("nothing")
    edits.export_compvis(model, "whole.safetensors")
    with pytest.raises(UserError, match="whole.safetensors.*not an edit"):
        read_members("whole.safetensors")


# ---- what is made of judgements --------------------------------------------------------------------------------------


@pytest.fixture
def measured(model, base, tmp_path):
    """Three targets and two other concepts, two pictures each; erasing golf ball takes a picture of adam driver along."""
    one = Measured(group(model, base, *["context_map"] * 3), tmp_path, dict(zip(CONCEPTS, count(), strict=False)))
    kinds = dict(zip((*CONCEPTS, "church", "picasso"), ("style", "object", "person", "object", "style"), strict=True))
    for selection in selections(3):
        folder = tmp_path / selection.folder(one.group)
        folder.mkdir(parents=True)
        found = []
        for case, (concept, k) in enumerate((c, k) for c in kinds for k in range(2)):
            if selection.kind == "all but" and concept not in CONCEPTS:
                continue
            gone = concept in CONCEPTS and one.erases(selection, concept)
            gone |= concept == "adam driver" and k == 0 and 1 in selection.chosen
            answer = "photo" if gone else concept
            style, subject = (answer, "church") if kinds[concept] == "style" else ("photo", answer)
            file = f"{case}_0.png"
            Image.new("RGB", (8, 8)).save(folder / file)
            prompt = f"a {concept}"
            found.append(Judgement(case, 0, file, prompt, kinds[concept], concept, style, 1.0, subject, 1.0, not gone))
        one.judged[selection] = found
    return one


def test_the_table(measured):
    found = {score.label: score for score in presenting.scores([measured])}
    shown = {label: [(i.value, i.n) for i in score.intervals] for label, score in found.items()}
    assert shown == {
        "Each alone": [(1, 6), (0, 6)],
        "All together": [(1, 6), (0, 6)],
        "Left out again": [(1, 6), (5 / 6, 6)],
        "Everything else": [(1, 4), (1, 4)],
    }
    assert [score.goal for score in found.values()] == ["erase", "erase", "keep", "keep"]


def test_the_matrix(measured):
    made = presenting.matrix(measured)
    assert made.rows == [*CONCEPTS, "everything else"]
    assert [(head, len(names)) for head, names in made.columns] == [
        ("Base", 1), ("Each alone", 3), ("All", 1), ("All but", 3),
    ]  # fmt: skip
    shares = [[None if c.interval is None else c.interval.value for c in row] for row in made.cells]
    assert shares == [
        [1, 0, 1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 0, 0, 1, 0],
        [1, 1, 0.5, 0, 0, 0, 0, 0.5],
        [1, 1, 1, 1, 1, None, None, None],
    ]
    erased = [[c.goal == "erase" for c in row] for row in made.cells[:3]]
    assert erased == [[c.chosen.count(i) > 0 for c in measured.judged] for i in range(3)]


def test_the_scatter_plot(measured):
    [series] = presenting.scatter([measured]).series
    assert (series.spot.x.value, series.spot.x.n) == (1, 4) and (series.spot.y.value, series.spot.y.n) == (1, 6)
    assert series.spot.y.low < 1 == series.spot.y.high
    assert [round(s.x.value * s.x.n) for s in series.small] == [8, 7, 8] and {s.x.n for s in series.small} == {8}


def test_the_files(measured, tmp_path):
    shown = presenting.report([measured], "Three", "of them", {"base": "tiny"})
    html, png, table, facts = presenting.write([measured], shown, tmp_path / "out")
    rows = list(csv.DictReader(table.open()))
    assert len(rows) == 3 * 8 + 5
    [row] = [r for r in rows if r["selection"] == "all but" and r["edit"] == r["concept"] == "adam driver"]
    assert (row["edits_applied"], row["should_be"], row["shown"], row["n_images"]) == (
        "van gogh; golf ball",
        "kept",
        "0.5",
        "2",
    )
    assert html.read_text() == to_html(shown) and html.read_text().count("data:image/") == 2 * 10
    assert Image.open(png).size == to_image(shown).size
    assert "maps of the text multiplied" in facts.read_text()


def test_only_the_embedded_model_brings_a_judge():
    with pytest.raises(UserError, match="--judge PACKAGE.MODULE:FUNCTION"):
        judging(None, "sd-v1", None)
    with pytest.raises(UserError, match="no_such_module"):
        judging("no_such_module:judge", "sd-v1", None)
    with pytest.raises(UserError, match="give embedded"):
        judging("anything", "toy", None)
    made = judging(f"{__name__}:a_judge", "sd-v1", None)
    assert made.judge("pictures") == "pictures" and made.identity == {"name": "mine"} and made.prompts is None


def a_judge():
    return str, {"name": "mine"}
