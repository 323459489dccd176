"""Objectives of SepCE's family: losses, the stop rule, and what they leave of the network."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from ldm.modules.kv_shift import cross_attentions
from methods.sepce import objectives
from methods.sepce.objectives import MomentumStop
from methods.sepce.objectives.abconcept import Abconcept
from methods.sepce.objectives.cie import CiE
from methods.sepce.objectives.fmn import FMN
from tests.tiny import tiny_model

NUMBERS = st.floats(-10, 10, width=32)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def encode(text):
    """Any text, always the same; not an even distribution, which every key would answer alike."""
    generator = torch.Generator().manual_seed(len(text) * 1000 + sum(map(ord, text)))
    return torch.randn(1, 5, 32, generator=generator)


def step(seed, t=500):
    generator = torch.Generator().manual_seed(seed)
    latent, noise = torch.randn(2, 1, 4, 8, 8, generator=generator).unbind()
    return SimpleNamespace(t=torch.tensor([t]), latents=[latent], noises=[noise])


def cie(model, **options):
    return CiE(model, encode, "van gogh", **dict(reg_beta=3e-5, threshold=0.0, iterations=20) | options)


MAKERS = {
    "cie": cie,
    "fmn": lambda model: FMN(model, encode, "van gogh", 20),
    "abconcept": lambda model: Abconcept(model, encode, "van gogh", 20),
}


@pytest.fixture(params=MAKERS)
def objective(request, model):
    return MAKERS[request.param](model)


def train(objective, steps, lr=1e-3):
    optimizer = torch.optim.Adam(objective.trained.values(), lr=lr, fused=True)
    numbers = []
    for i in range(steps):
        terms = objective.terms(step(i))
        terms.loss.backward()
        optimizer.step()
        numbers.append(terms.numbers)
    return numbers


# ---- the network ---------------------------------------------------------------------------------------------------


def test_the_network_is_restored_bit_for_bit(model, objective):
    before = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    required = {name: p.requires_grad for name, p in model.named_parameters()}
    hooks = [len(m._forward_hooks) for m in model.modules()]
    with pytest.raises(RuntimeError, match="stop"), objective:
        train(objective, 2)
        assert any(not torch.equal(value, before[name][1]) for name, value in model.state_dict().items())
        raise RuntimeError("stop")
    for name, value in model.state_dict().items():
        assert value.data_ptr() == before[name][0] and torch.equal(value, before[name][1]), name
    assert {name: p.requires_grad for name, p in model.named_parameters()} == required
    assert all(p.grad is None for p in model.parameters())
    assert [len(m._forward_hooks) for m in model.modules()] == hooks


def test_only_cross_attention_is_trained(model, objective):
    before = {name: p.detach().clone() for name, p in objective.unet.named_parameters()}
    with objective:
        train(objective, 1)
        gradients = {name for name, p in objective.unet.named_parameters() if p.grad is not None}
        changed = {name for name, p in objective.unet.named_parameters() if not torch.equal(p, before[name])}
        edit = objective.edit({"lr": 1e-3}, {"sha256": "x"})
    wanted = {
        f"{layer}.{own}" for layer, module in cross_attentions(objective.unet).items() for own in parameters(module)
    }
    assert set(objective.trained) == wanted
    last = [*cross_attentions(objective.unet)][-1]
    # FMN's loss ends at the last layer's logits
    unreached = (
        {n for n in wanted if n.startswith((f"{last}.to_v", f"{last}.to_out"))} if edit.method == "fmn" else set()
    )
    assert gradients == changed == set(edit.tensors) == wanted - unreached
    assert edit.concepts == ["van gogh"] and edit.kind == "tensors" and edit.base == {"sha256": "x"}
    assert edit.settings["lr"] == 1e-3


def parameters(module):
    return dict(module.named_parameters())


def test_edits_are_copies(objective):
    with objective:
        train(objective, 1)
        edit = objective.edit({}, {})
        kept = {name: tensor.clone() for name, tensor in edit.tensors.items()}
        train(objective, 1)
    assert all(torch.equal(edit.tensors[name], tensor) for name, tensor in kept.items())


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_loss_goes_down(model, make):
    with make(model) as objective:
        optimizer = torch.optim.Adam(objective.trained.values(), lr=1e-3)
        losses = []
        for _ in range(6):
            optimizer.zero_grad()
            terms = objective.terms(step(0))
            terms.loss.backward()
            optimizer.step()
            losses.append(terms.numbers["loss"])
            assert terms.numbers["loss"] == pytest.approx(terms.loss.item())
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_checkpointed_layers_give_the_same_gradients(make):
    """What is recomputed in the backward pass is recorded there, too: FMN's hooks have to be in place still."""
    found = []
    for checkpointed in (False, True):
        model = tiny_model()
        for module in model.modules():
            if hasattr(module, "checkpoint") and isinstance(module.checkpoint, bool):
                module.checkpoint = checkpointed
        with make(model) as objective:
            objective.terms(step(0)).loss.backward()
            found.append({name: p.grad for name, p in objective.trained.items() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-9)


@torch.no_grad()
def test_texts_of_one_batch_do_not_meet(model):
    with cie(model) as objective:
        of, contexts = step(3), list(objective.texts.values())
        x = objective.noised(of)
        for predict in (objective.predict, objective.original):
            for together, context in zip(predict(x, of.t, contexts), contexts, strict=True):
                torch.testing.assert_close(together, predict(x, of.t, [context])[0], rtol=0, atol=2e-5)


# ---- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["fmn", "abconcept"])
@pytest.mark.parametrize("iter_break", [0, 3])
def test_baselines_make_one_step_more(model, name, iter_break):
    objective = MAKERS[name](model)
    objective.iter_break = iter_break
    finished = [objective.finished(i, {}) for i in range(iter_break + 2)]
    assert finished.index(True) == iter_break


@given(st.lists(NUMBERS, min_size=1, max_size=40), st.floats(0, 1, exclude_max=True))
def test_momentum_is_the_weighted_sum(values, alpha):
    stop = MomentumStop(alpha)
    for value in values:
        last = stop.update(value)
    n = len(values) - 1
    wanted = alpha**n * values[0] + sum((1 - alpha) * alpha ** (n - i) * values[i] for i in range(1, n + 1))
    assert last == pytest.approx(wanted, abs=1e-9)


@given(st.lists(NUMBERS, min_size=1, max_size=30), NUMBERS, st.integers(0, 15), st.integers(0, 25))
def test_stop_rule(values, threshold, min_iter, max_iter):
    """The first iteration from min_iter on that is below the threshold (strictly) or at the limit."""
    stop, averages = MomentumStop(0.9, threshold, min_iter, max_iter), []
    found = None
    for i, value in enumerate(values):
        averages.append(stop.update(value))
        if stop.finished(i):
            found = i
            break
    ended = [i for i, m in enumerate(averages) if i >= min_iter and (m < threshold or i >= max_iter)]
    assert found == (ended[0] if ended else None)


@pytest.mark.parametrize("wrong", [{"alpha": 1.0}, {"alpha": -0.1}, {"alpha": float("nan")}, {"min_iter": -1}])
def test_senseless_rules(wrong):
    with pytest.raises(UserError, match="momentum must|min_iter must"):
        MomentumStop(**wrong)


def test_equal_to_the_threshold_is_not_below():
    stop = MomentumStop(threshold=0.5)
    stop.update(0.5)
    assert not stop.below and not stop.finished(11)
    assert stop.finished(1000)


def test_cie_makes_at_least_twelve_steps_and_says_whether_it_arrived(model):
    with cie(model, threshold=1e9) as objective:
        train(objective, 1)
        assert [objective.finished(i, {}) for i in (0, 10, 11)] == [False, False, True]
        assert objective.edit({}, {}).settings["stopped"] is True
    with cie(model, threshold=-1e9, iterations=15) as objective:
        numbers = train(objective, 1)
        assert [objective.finished(i, {}) for i in (11, 14, 15)] == [False, False, True]
        edit = objective.edit({}, {})
        assert edit.settings["stopped"] is False and edit.settings["momentum_value"] == numbers[0]["momentum"]


def test_cie_resumes_its_average(model):
    with cie(model) as first:
        train(first, 3)
        tensors, numbers = first.state()
    second = cie(model)
    second.load(tensors, numbers)
    assert second.stop.momentum == first.stop.momentum


def test_objectives_without_a_state_refuse_one(model):
    objective = MAKERS["fmn"](model)
    objective.load(*objective.state())
    with pytest.raises(ValueError, match="keeps no state"):
        objective.load({}, {"momentum": 1.0})


# ---- losses --------------------------------------------------------------------------------------------------------


def test_first_step_of_cie_is_the_mean_square(model):
    """With the original weights both directions are the same, and the change is 0 with a gradient of 0."""
    with cie(model, reg_beta=1.0) as objective:
        of = step(1)
        x, (empty, concept) = objective.noised(of), objective.texts.values()
        e_0, e_n = objective.original(x, of.t, [empty, concept])
        terms = objective.terms(of)
    assert terms.numbers["direction"] == pytest.approx((e_n - e_0).square().mean().item(), rel=1e-5)
    assert terms.numbers["loss_reg"] == 0 and terms.numbers["loss"] == terms.numbers["direction"]


def test_first_step_of_abconcept_holds_its_anchor(model):
    with MAKERS["abconcept"](model) as objective:
        numbers = objective.terms(step(1)).numbers
    assert numbers["anchor_term"] == pytest.approx(0, abs=1e-9) and numbers["concept_term"] > 0


def test_fmn_of_the_same_text_is_nothing(model):
    objective = MAKERS["fmn"](model)
    with_it, without = objective.prompts
    objective.texts[with_it] = objective.texts[without]
    with objective:
        assert objective.terms(step(1)).loss.item() == 0


def test_losses_by_hand():
    one, two, three = (torch.tensor([[float(n), 0.0]]) for n in (1, 2, 3))
    assert objectives.correlation(two, three).item() == 3.0
    assert objectives.fmn_loss([two, three]).item() == (4 + 9) / 2
    loss, concept, anchor = objectives.abconcept_loss(e_pn=three, e_p0=two, e_n=one)
    assert (concept.item(), anchor.item(), loss.item()) == (2.0, 5.0, 7.0)
    assert objectives.mean_l1([-one, two, torch.zeros(3)]).item() == 1.0


def test_mean_l1_leaves_unchanged_weights_alone():
    weights = torch.ones(3, requires_grad=True)
    objectives.mean_l1([weights - torch.tensor([1.0, 0.5, 2.0])]).backward()
    assert weights.grad.tolist() == [0.0, 1.0, -1.0]
