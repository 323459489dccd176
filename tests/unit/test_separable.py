"""Separable edits: selections are exact, and with an exact null space a part is invisible to what it protects."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits import Part, context_projections
from erasure.errors import UserError
from erasure.runs import tensors_sha256
from methods.sepce.nullspace import nullspace_basis
from tests.tiny import model_of_short_prompts

UNET = "model.diffusion_model."
CONCEPTS = ("VanGogh", "Cezanne", "Picasso")
TOKENS = 8  # of a prompt: three prompts, which share their first, leave 32 - 22 dimensions


@pytest.fixture(scope="module")
def model():
    return model_of_short_prompts(TOKENS)


@pytest.fixture(scope="module")
def base(model):
    weights = {k.removeprefix(UNET): v for k, v in model.state_dict().items() if k.startswith(UNET)}
    return BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", tensors_sha256(weights), "toy")


@pytest.fixture(scope="module")
def states(model):
    """Prompt -> text states [8, 32] float64."""
    texts = ("", *CONCEPTS, "a cat")
    with torch.no_grad():
        return {text: model.get_learned_conditioning([text])[0].double() for text in texts}


@pytest.fixture(scope="module")
def parts(model, states):
    """Of each concept, which the empty prompt and the other concepts do not see; random otherwise."""

    def part(seed, concept):
        protected = ["", *(other for other in CONCEPTS if other != concept)]
        basis = torch.from_numpy(nullspace_basis(torch.cat([states[text] for text in protected]).numpy()))
        generator = torch.Generator().manual_seed(seed)
        w = {
            name.removeprefix(UNET): torch.randn(len(weight), len(basis), generator=generator)
            for name, weight in context_projections(model).items()
        }
        return Part(concept, basis, w, 0.5, protected, {"stopped": True, "steps": 12 + seed, "momentum": -1e-5})

    return [part(seed, concept) for seed, concept in enumerate(CONCEPTS)]


@pytest.fixture(scope="module")
def alone(parts, base):
    """An edit of each concept, as if trained one after the other with settings of its own."""
    runs = [{"lr": 0.1, "seed": n} for n in range(len(parts))]
    return [edits.separable([p], base.to_dict(), "sepce", run) for p, run in zip(parts, runs, strict=True)]


def weights_under(model, *several):
    """Copies of the projections with edits in the model."""
    applied = [edits.apply(model, edit) for edit in several]
    found = {name: weight.detach().clone() for name, weight in context_projections(model).items()}
    for one in reversed(applied):
        one.remove()
    return found


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def same_edits(one, other):
    facts = [(e.method, e.concepts, e.settings, e.base, e.kind, list(e.tensors)) for e in (one, other)]
    return facts[0] == facts[1] and all(torch.equal(t, other.tensors[name]) for name, t in one.tensors.items())


def answers(weights, states):
    """Projection -> W e [8, C] float64."""
    return {name: states @ weight.double().T for name, weight in weights.items()}


# ---- selections ----------------------------------------------------------------------------------------------------


def test_parts_come_back_as_they_went_in(parts, base, tmp_path):
    edits.save(edits.separable(parts, base.to_dict(), settings={"lr": 0.1}), tmp_path / "edit.safetensors")
    edit = edits.read(tmp_path / "edit.safetensors")
    assert edit.kind == "separable" and edit.concepts == list(CONCEPTS) and edit.settings["lr"] == 0.1
    for part, found in zip(parts, edits.parts_of(edit), strict=True):
        assert (part.concept, part.scale, list(part.protected)) == (found.concept, found.scale, list(found.protected))
        assert found.facts == {"method": "sepce", "run": {"lr": 0.1}, **part.facts}
        assert found.basis.dtype == torch.float64 and torch.equal(part.basis, found.basis)
        assert part.coefficients.keys() == found.coefficients.keys()
        assert all(torch.equal(w, found.coefficients[name]) for name, w in part.coefficients.items())


@given(st.permutations(range(3)), st.sets(st.integers(0, 2), min_size=1))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_selection_is_exactly_the_composition_of_the_selected(model, alone, tmp_path, order, chosen):
    whole = edits.compose([alone[n] for n in order])
    direct = edits.compose([alone[n] for n in order if n in chosen])
    kept = edits.keep(whole, [CONCEPTS[n] for n in chosen])
    dropped = edits.drop(whole, [CONCEPTS[n] for n in range(3) if n not in chosen])
    assert same_edits(kept, direct) and same_edits(dropped, direct)
    edits.save(kept, tmp_path / "kept.safetensors")
    edits.save(direct, tmp_path / "direct.safetensors")
    assert (tmp_path / "kept.safetensors").read_bytes() == (tmp_path / "direct.safetensors").read_bytes()
    in_order = edits.compose([alone[n] for n in sorted(chosen)])
    assert same_weights(weights_under(model, kept), weights_under(model, in_order)), "the order in the file shows"


def test_selecting_from_selections(alone):
    """Erase, restore and erase again, in any grouping: nothing piles up in the header either."""
    a, b, c = alone
    grouped = edits.compose([edits.compose([a, b]), c])
    assert same_edits(grouped, edits.compose(alone))
    assert same_edits(edits.drop(grouped, ["Cezanne"]), edits.compose([a, c]))
    again = edits.compose([edits.drop(grouped, ["Cezanne"]), b])
    assert same_edits(edits.keep(again, CONCEPTS[:2]), edits.compose([a, b]))


def test_names_as_a_user_writes_them(alone):
    whole = edits.compose(alone)
    assert edits.keep(whole, ["van gogh"]).concepts == ["VanGogh"]
    assert edits.drop(whole, [" PICASSO"]).concepts == ["VanGogh", "Cezanne"]
    with pytest.raises(UserError, match="no part of 'Monet'"):
        edits.drop(whole, ["Monet"])
    with pytest.raises(UserError, match="no part is left"):
        edits.drop(whole, CONCEPTS)


def test_names_that_differ_in_a_space_only(parts, base):
    spelled = Part("Van Gogh", *(getattr(parts[0], f) for f in ("basis", "coefficients", "scale", "protected")))
    both = edits.separable([parts[0], spelled], base.to_dict())
    assert edits.drop(both, ["Van Gogh"]).concepts == ["VanGogh"]
    with pytest.raises(UserError, match="no part"):
        edits.drop(both, ["van gogh"])


def test_the_weights_are_the_formula(model, parts, base):
    before = {name: weight.detach().clone() for name, weight in context_projections(model).items()}
    found = weights_under(model, edits.separable(parts[::-1], base.to_dict()))
    for name, weight in before.items():
        short, expected = name.removeprefix(UNET), weight.double()
        for part in parts:
            expected = expected + part.coefficients[short].double() @ (0.5 * part.basis)
        torch.testing.assert_close(found[name].double(), expected, rtol=0, atol=1e-6)
    assert same_weights(weights_under(model), before), "the base does not come back bit for bit"


def test_one_after_the_other_in_a_model(model, alone, base):
    """Stacked edits add up like one, but for rounding, and leave bit for bit."""
    before = weights_under(model)
    for name, weight in weights_under(model, *alone).items():
        torch.testing.assert_close(weight, weights_under(model, edits.compose(alone))[name], rtol=0, atol=1e-5)
    assert same_weights(weights_under(model), before)
    with edits.apply(model, alone[0], base), pytest.raises(UserError, match="VanGogh: erased by"):
        edits.apply(model, edits.compose(alone[:2]), base)


# ---- what the null space promises ----------------------------------------------------------------------------------


def test_restoring_a_concept_touches_no_other(model, alone, states):
    base = weights_under(model)
    erased = weights_under(model, edits.compose(alone))
    restored = weights_under(model, edits.drop(edits.compose(alone), ["Picasso"]))
    never = weights_under(model, edits.compose(alone[:2]))
    assert same_weights(restored, never)
    for name in base:
        for text in ("", *CONCEPTS):
            original, gone, back = (answers(w, states[text])[name] for w in (base, erased, restored))
            scale = original.abs().max()
            if text == "":
                assert (gone - original).abs().max() < 1e-5 * scale
                assert (back - original).abs().max() < 1e-5 * scale
            elif text == "Picasso":
                assert (gone - original).abs().max() > 0.1 * scale, "it was not erased"
                assert (back - original).abs().max() < 1e-5 * scale, "it does not come back"
            else:
                assert (gone - original).abs().max() > 0.1 * scale
                assert (back - gone).abs().max() < 1e-5 * gone.abs().max(), "another concept's erasure has moved"


def test_a_part_alone_is_what_its_concept_sees_of_all(model, alone, states):
    together = weights_under(model, edits.compose(alone))
    for edit in alone:
        own, (concept,) = weights_under(model, edit), edit.concepts
        for name, seen in answers(together, states[concept]).items():
            assert (seen - answers(own, states[concept])[name]).abs().max() < 1e-5 * seen.abs().max()


def test_prompts_that_nobody_protects_do_see_it(model, alone, states):
    base, erased = weights_under(model), weights_under(model, alone[0])
    changes = [(answers(erased, states["a cat"])[n] - answers(base, states["a cat"])[n]).abs().max() for n in base]
    assert min(changes) > 0.1


# ---- refusals ------------------------------------------------------------------------------------------------------


def test_compose_refuses(alone, base):
    other = edits.Edit(
        "sepce", ["Monet"], alone[1].settings, base.to_dict() | {"sha256": "0"}, alone[1].tensors, "separable"
    )
    tensors = edits.Edit("esd", ["x"], {}, base.to_dict(), {"a": torch.ones(1)})
    for several, words in (
        ([alone[0], alone[0]], "same concept: VanGogh"),
        ([alone[0], other], "another base"),
        ([alone[0], tensors], "another base or kind"),
    ):
        with pytest.raises(UserError, match=words):
            edits.compose(several)
    for select in (edits.keep, edits.drop):
        with pytest.raises(UserError, match="no parts"):
            select(tensors, ["x"])


def test_parts_that_fit_nothing(parts, base, model):
    part = parts[0]
    name = next(iter(part.coefficients))

    def with_(**changes):
        fields = {f: getattr(part, f) for f in ("concept", "basis", "coefficients", "scale", "protected")}
        return edits.separable([Part(**fields | changes)], base.to_dict())

    for changes, words in (
        ({"basis": part.basis[:-1]}, "directions"),
        ({"basis": part.basis[:0]}, "is none"),
        ({"coefficients": {}}, "is none"),
        ({"coefficients": {name.replace("to_k", "to_q"): part.coefficients[name]}}, "to_q"),
    ):
        with pytest.raises(UserError, match=words):
            with_(**changes)
    unknown = {f"output_blocks.99.{name}": part.coefficients[name]}
    for changes, words in (
        ({"coefficients": {name: part.coefficients[name][:-1]}}, "for another model"),
        ({"coefficients": unknown}, "changes nothing"),
        ({"coefficients": {name: part.coefficients[name]} | unknown}, "does not"),
        ({"coefficients": {name: part.coefficients[name] * torch.nan}}, "NaN"),
        ({"coefficients": {name: part.coefficients[name] * 0}}, "changes nothing"),
    ):
        with pytest.raises(UserError, match=words):
            edits.apply(model, with_(**changes))


def test_damaged_headers(alone):
    edit = alone[0]
    for changes in (
        {"settings": {}},
        {"settings": {"parts": []}},
        {"settings": {"parts": [{"concept": "VanGogh"}]}},
        {"concepts": ["Monet"]},
        {"tensors": dict(list(edit.tensors.items())[1:])},
        {"tensors": edit.tensors | {"7.basis": torch.ones(1, 1)}},
    ):
        fields = {f: getattr(edit, f) for f in ("method", "concepts", "settings", "base", "tensors", "kind")}
        with pytest.raises(UserError, match="incomplete"):
            edits.parts_of(edits.Edit(**fields | changes))
