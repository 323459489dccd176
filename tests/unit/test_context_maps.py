"""Maps of the conditioning: algebra, files, and the edit kind in a model."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits import ContextMap, context_projections
from erasure.errors import UserError
from erasure.runs import tensors_sha256
from tests.tiny import tiny_model

UNET = "model.diffusion_model."
DIM = 32  # of the tiny model's conditioning


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def random_map(seed, rows, dim=DIM):
    """rows None: the form of one whole matrix."""
    if rows is None:
        return ContextMap(None, 0.1 * draw(seed, dim, dim))
    return ContextMap(0.1 * draw(seed, rows, dim), draw(seed + 1, rows, dim))


maps = st.tuples(st.integers(0, 999), st.one_of(st.none(), st.integers(0, 12)))


@given(maps)
@settings(max_examples=30, deadline=None)
def test_a_mapped_weight_answers_as_the_weight_answers_the_mapped_conditioning(drawn):
    p, weight, context = random_map(*drawn), draw(1, 6, DIM), draw(2, 2, 5, DIM)
    torch.testing.assert_close(context @ p.applied(weight).T, p.on_context(context) @ weight.T)
    torch.testing.assert_close(p.applied(weight), weight @ p.matrix())


@given(maps, maps, maps)
@settings(max_examples=40, deadline=None)
def test_composition_is_one_after_the_other_and_associative(first, second, third):
    a, b, c = (random_map(*one) for one in (first, second, third))
    weight = draw(3, 6, DIM)
    torch.testing.assert_close(a.then(b).applied(weight), b.applied(a.applied(weight)))
    torch.testing.assert_close(a.then(b).then(c).matrix(), a.then(b.then(c)).matrix())
    torch.testing.assert_close(ContextMap.identity(DIM).then(a).matrix(), a.matrix())


@given(st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_file_holds_two_rows_a_token_and_never_more_than_the_matrix(rows, seed):
    p = random_map(seed, rows)
    tensors = p.tensors()
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    assert size <= 4 * DIM * min(2 * (rows or DIM), DIM)
    torch.testing.assert_close(ContextMap.from_tensors(tensors).matrix(), p.matrix(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "shapes", ({"left": (2, 3)}, {"left": (2, 3), "right": (3, 3)}, {"delta": (2, 3)}, {"w": (3, 3)})
)
def test_other_tensors_are_no_map(shapes):
    with pytest.raises(UserError, match="not a map"):
        ContextMap.from_tensors({name: torch.zeros(shape) for name, shape in shapes.items()})


def test_maps_of_other_sizes_do_not_compose():
    with pytest.raises(UserError, match="size"):
        random_map(0, 2, 8).then(random_map(0, 2, 9))


# ---- in a model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def base():
    model = tiny_model()
    weights = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    unet = {key.removeprefix(UNET): t for key, t in weights.items() if key.startswith(UNET)}
    return model, BaseIdentity("tiny", "t", "t", "only", tensors_sha256(unet), "toy"), weights


def edit_of(base, context_map, concept="van gogh"):
    return edits.Edit("uce", [concept], {}, base[1].to_dict(), context_map.tensors(), "context_map")


def unchanged(base):
    return all(torch.equal(tensor, base[2][key]) for key, tensor in base[0].state_dict().items())


def test_an_edit_changes_all_projections_and_leaves_bit_for_bit(base, tmp_path):
    model, identity, weights = base
    p = random_map(5, 3)
    edits.save(edit_of(base, p), tmp_path / "edit.safetensors")
    names = set(context_projections(model))
    with edits.load_into(model, identity, tmp_path / "edit.safetensors") as applied:
        assert set(applied.matched) == names and not applied.missing
        for key, tensor in model.state_dict().items():
            stored = ContextMap.from_tensors(p.tensors())
            wanted = stored.applied(weights[key]).float() if key in names else weights[key]
            assert torch.equal(tensor, wanted), key
    assert unchanged(base)


def test_the_edited_model_is_the_model_with_its_conditioning_mapped(base):
    model, identity, _ = base
    p = random_map(6, 2)
    x, t, c = draw(0, 2, 4, 8, 8).float(), torch.tensor([10, 700]), draw(1, 2, 77, DIM).float()
    with torch.no_grad():
        mapped = model.apply_model(x, t, p.on_context(c))
        plain = model.apply_model(x, t, c)
        with edits.apply(model, edit_of(base, p), identity):
            edited = model.apply_model(x, t, c)
    torch.testing.assert_close(edited, mapped, rtol=1e-3, atol=1e-4)
    assert not torch.allclose(edited, plain, rtol=1e-3, atol=1e-4)


def test_two_maps_in_a_model_are_their_composition(base):
    model, identity, weights = base
    a, b = random_map(7, 3), random_map(8, None)
    with edits.apply(model, edit_of(base, a), identity), edits.apply(model, edit_of(base, b, "picasso"), identity):
        both = {name: weight.clone() for name, weight in context_projections(model).items()}
    assert unchanged(base)
    for name, weight in both.items():
        torch.testing.assert_close(weight.double(), a.then(b).applied(weights[name]), rtol=1e-4, atol=1e-5)


def test_tensors_of_a_later_edit_are_added_to_what_a_map_changed(base):
    model, identity, weights = base
    name = next(iter(context_projections(model)))
    moved = {name.removeprefix(UNET): weights[name] + 1}
    p = random_map(9, 2)
    with edits.apply(model, edit_of(base, p), identity):
        with edits.apply(model, edits.Edit("esd", ["x"], {}, identity.to_dict(), moved), identity):
            got = model.state_dict()[name].clone()
    torch.testing.assert_close(got.double(), p.applied(weights[name]) + 1, rtol=1e-4, atol=1e-4)
    assert unchanged(base)


def test_a_map_for_another_conditioning_is_refused(base):
    model, identity, _ = base
    with pytest.raises(UserError, match="size 8"):
        edits.apply(model, edit_of(base, random_map(0, 2, 8)), identity)
    with pytest.raises(UserError, match="changes nothing"):
        edits.apply(model, edit_of(base, ContextMap(*torch.zeros(2, 1, DIM))), identity)
    assert unchanged(base)


def test_composed_edits_of_maps_are_one_edit(base):
    model, identity, _ = base
    a, b = edit_of(base, random_map(1, 2)), edit_of(base, random_map(2, 3), "picasso")
    one = edits.compose([a, b])
    assert one.kind == "context_map" and one.concepts == ["van gogh", "picasso"]
    with edits.apply(model, a, identity), edits.apply(model, b, identity):
        both = {name: weight.clone() for name, weight in context_projections(model).items()}
    with edits.apply(model, one, identity):
        for name, weight in context_projections(model).items():
            torch.testing.assert_close(weight, both[name], rtol=1e-4, atol=1e-4)
