"""ESD at the embedded model's preset: the target goes, everything else stays, and the way back is exact."""

import pytest
import torch

from erasure import base_models, edits

pytestmark = [pytest.mark.behaviour, pytest.mark.slow]


def case(prompt, method, kind):
    """One worker trains and draws a case, while the other does the next."""
    return pytest.param((prompt, method, kind), marks=pytest.mark.xdist_group(prompt), id=prompt.replace(" ", ""))


CASES = [case("Van Gogh", "xattn", "style"), case("golf ball", "noxattn", "object")]


@pytest.fixture(scope="module", params=CASES)
def erased(request, bench):
    prompt, method, kind = request.param
    target = prompt.lower()
    after = bench.measure(target, bench.esd(prompt, method))
    return target, kind, bench.measure("base"), after


def test_the_target_is_gone(erased):
    target, kind, before, after = erased
    assert before.by_concept[kind, target] >= 0.9
    assert after.by_concept[kind, target] <= 0.10


def test_every_other_style_stays(erased):
    target, _, before, after = erased
    kept = {c: share / before.kind("style", target)[c] for c, share in after.kind("style", target).items()}
    assert {c: share for c, share in kept.items() if share < 0.9} == {}


@pytest.mark.parametrize("kind", ("object", "person"))
def test_objects_and_people_stay(erased, kind):
    target, _, before, after = erased
    assert after.mean(kind, target) >= 0.95 * before.mean(kind, target)


@pytest.mark.parametrize("case", CASES)
def test_removing_the_edit_gives_the_base_back_bit_for_bit(bench, case):
    prompt, method, _ = case
    edit = bench.esd(prompt, method)
    model, identity = base_models.load("toy")
    original = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    with edits.apply(model, edit, identity) as applied:
        assert set(applied.matched) and not applied.missing
        changed = [key for key, tensor in model.state_dict().items() if not torch.equal(tensor, original[key])]
        assert changed and all(("attn2" in key) == (method == "xattn") for key in changed)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, original[key]), key
