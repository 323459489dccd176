"""Residual attention gates in a network: the formula, contexts that change, gradients, and the edit's way in and out."""

import contextlib
import gc
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from erasure import edits
from erasure.edits import ContextMap, Edit, applying, residual_gates
from erasure.edits.residual_gates import KIND, UP, gates_of, layers_of
from erasure.errors import UserError
from ldm.modules import residual_gate
from ldm.modules.residual_gate import Gates, attach, gate
from tests.gates import gate_edit, identity_of, model_of_two_widths, unet_weights

PROJECTION = "input_blocks.1.1.transformer_blocks.0.attn2.to_k"
CONCEPTS = ("emma stone", "elon musk", "drake")


# ---- the formula ---------------------------------------------------------------------------------------------------


class Network(nn.Module):
    """Two projections of different width; it casts its context, as a UNet does."""

    def __init__(self, dim, dtype=torch.float32):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.to_k, self.to_v = (nn.Linear(dim, width, bias=False, dtype=dtype) for width in (3, 5))
        self.requires_grad_(False)

    @property
    def dtype(self):
        return self.to_k.weight.dtype

    def forward(self, x, context=None):
        context = context.to(self.dtype)
        return x + torch.cat([self.to_k(context), self.to_v(context)], dim=-1)


def random_gates(seed, count, dim, rank=2, separate_key=False):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(count, *shape, generator=generator)

    down = {name: normal(dim, rank) for name in ("to_k", "to_v")}
    up = {"to_k": normal(rank, 3), "to_v": normal(rank, 5)}
    query, key, scaler = normal(dim, 4), normal(dim, 4), normal(dim, 1)  # small: gates that round to 1 have no order
    return Gates(0.3 * query, 0.3 * key, 0.3 * scaler, down, up, 0.5, separate_key)


def plain_residuals(gates, x):
    """The definition, one concept and one token after the other: {projection: [B, T, C]}."""
    opened, mixed = [], []
    for n in range(len(gates.scaler)):
        q, k = x @ gates.query[n], x @ (gates.key if gates.separate_key else gates.query)[n]
        mixed.append(torch.softmax(q @ k.transpose(1, 2), dim=-1) @ x)
        opened.append(torch.sigmoid(mixed[n] @ gates.scaler[n])[..., 0])
    winner = torch.stack(opened).argmax(0)
    found = {}
    for name, up in gates.up.items():
        rows = [
            torch.stack(
                [
                    gates.alpha / up.shape[1] * opened[n][b, t] * mixed[n][b, t] @ gates.down[name][n] @ up[n]
                    for t, n in enumerate(tokens)
                ]
            )
            for b, tokens in enumerate(winner.tolist())
        ]
        found[name] = torch.stack(rows)
    return found


def plain_output(network, gates, x):
    found = plain_residuals(gates, x)
    return torch.cat([network.to_k(x) + found["to_k"], network.to_v(x) + found["to_v"]], dim=-1)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gated_output(gates, x):
    network = Network(x.shape[-1])
    attach(network, gates)
    return network(0, context=x)


sizes = st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 7))  # B, T, D
seeds = st.integers(0, 9999)


def close(found, expected, tolerance=1e-5):
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * max(1.0, expected.abs().max().item())


@given(seeds, sizes, st.integers(1, 5), st.integers(1, 3), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_number_of_concepts_is_the_definition(seed, size, count, rank, separate_key):
    x, gates = draw(seed, *size), random_gates(seed + 1, count, size[2], rank, separate_key)
    close(gated_output(gates, x), plain_output(Network(size[2]), gates, x))


@given(seeds, sizes, st.integers(2, 5), st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_order_of_concepts_and_copies_of_one_change_nothing(seed, size, count, rng):
    x, gates = draw(seed, *size), random_gates(seed + 1, count, size[2])
    order = rng.sample(range(count), count)

    def picked(places):
        down, up = ({name: t[places] for name, t in side.items()} for side in (gates.down, gates.up))
        return Gates(gates.query[places], gates.key[places], gates.scaler[places], down, up, gates.alpha)

    apart = gate(x, gates).largest.double()  # two gates that round to the same number have no order
    assert (gate(x, picked(order)).largest - apart).abs().max() <= 1e-6
    opened = torch.stack([gate(x, picked([n])).largest for n in range(count)]).sort(0).values
    if (opened[-1] - opened[-2]).min() > 1e-6:
        close(gated_output(picked(order), x), gated_output(gates, x), 1e-6)
    for n in range(count):
        close(gated_output(picked([n] * 3), x), gated_output(picked([n]), x), 1e-6)


def test_of_equal_gates_the_first_concept_counts():
    gates = random_gates(1, 3, 6)
    gates.scaler.zero_()  # all gates are one half
    gated = gate(draw(2, 2, 5, 6), gates)
    assert not gated.concept.any() and torch.equal(gated.largest, torch.full((2, 5), 0.5))


def test_without_a_separate_key_it_has_no_effect():
    x, gates = draw(0, 2, 5, 6), random_gates(1, 2, 6)
    before = gated_output(gates, x)
    gates.key.normal_()
    assert torch.equal(gated_output(gates, x), before)
    separate = random_gates(1, 2, 6, separate_key=True)
    assert (gated_output(separate, x) - before).abs().max() > 1e-2


# ---- contexts that change ------------------------------------------------------------------------------------------

STEPS = ("with_grad", "no_grad", "inference", "written_to", "projection_alone")


@given(seeds, st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 3)), min_size=1, max_size=12))
@settings(max_examples=60, deadline=None)
def test_no_context_gets_the_residuals_or_gradients_of_another(seed, steps):
    """Forwards in any mode, writes into the memory of a context and calls of a projection alone, in any order."""
    network, gates = Network(6), random_gates(seed, 3, 6)
    contexts = [draw(seed, 2, 5, 6), draw(seed + 1, 2, 5, 6), draw(seed + 2, 1, 5, 6), draw(seed + 3, 2, 7, 6)]
    contexts[1].requires_grad_(), contexts[3].requires_grad_()
    remove = attach(network, gates)
    for step, i in steps:
        context = contexts[i]
        if step == "written_to":
            context.data.add_(0.25)
            continue
        mode = {"no_grad": torch.no_grad, "inference": torch.inference_mode}.get(step, contextlib.nullcontext)
        alone = step == "projection_alone"
        with mode():
            found = network.to_v(context) if alone else network(0, context=context)
        expected = plain_output(bare(network), gates, context)[..., 3 if alone else 0 :]
        close(found, expected)
        assert found.requires_grad == (context.requires_grad and mode is contextlib.nullcontext)
        if found.requires_grad:
            (ours,), (theirs,) = (torch.autograd.grad(out.square().sum(), [context]) for out in (found, expected))
            close(ours, theirs, 1e-4)
    remove()
    assert torch.equal(network(0, context=contexts[0]), bare(network)(0, context=contexts[0]))


def bare(network):
    """The same weights without hooks."""
    return Network(network.to_k.in_features)


def test_gates_are_computed_once_for_all_layers_and_steps(monkeypatch):
    calls, real = [], residual_gate.gate
    monkeypatch.setattr(residual_gate, "gate", lambda *arguments: calls.append(1) or real(*arguments))
    network, context = Network(6), draw(0, 2, 5, 6)
    attach(network, random_gates(1, 2, 6))
    with torch.no_grad():
        for _ in range(3):
            network(0, context=context)
        network(0, context=context.clone())
    assert len(calls) == 1
    network(0, context.clone().requires_grad_())
    assert len(calls) == 2


def test_no_graph_is_held_after_a_forward():
    network, context = Network(6), draw(0, 2, 5, 6).requires_grad_()
    attach(network, random_gates(1, 2, 6))
    network(0, context=context).sum().backward()
    alive = weakref.ref(context)
    del context
    gc.collect()
    assert alive() is None


def test_half_precision():
    """Gates are worked out in single precision, of the context as the network sees it."""
    network, gates, x = Network(6, torch.bfloat16), random_gates(1, 3, 6), draw(2, 2, 5, 6).requires_grad_()
    plain = network(0, context=x)
    attach(network, gates)
    out = network(0, context=x)
    seen = x.to(torch.bfloat16)
    residual = torch.cat(list(plain_residuals(gates, seen.float()).values()), dim=-1)
    assert out.dtype == torch.bfloat16
    assert torch.equal(out, plain + residual.to(torch.bfloat16))
    ours = torch.autograd.grad(out.float().sum(), [x], retain_graph=True)[0]
    theirs = torch.autograd.grad((plain + residual.to(torch.bfloat16)).float().sum(), [x])[0]
    close(ours, theirs, 2e-2)


def test_a_forward_that_fails_leaves_nothing_behind():
    network, gates = Network(6), random_gates(1, 2, 6)
    attach(network, gates)
    x, other = draw(0, 1, 5, 6), draw(1, 1, 5, 6)
    with pytest.raises(RuntimeError):
        network(torch.ones(7), context=x)
    with torch.no_grad():
        x.copy_(other)
        close(network.to_v(x), plain_output(bare(network), gates, other)[..., 3:])


# ---- in a UNet -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return model_of_two_widths()


@pytest.fixture(scope="module")
def base(model):
    return identity_of(model)


@pytest.fixture(autouse=True)
def nothing_stays(request):
    if "model" not in request.fixturenames:
        yield
        return
    model = request.getfixturevalue("model")
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    yield
    for applied in reversed(list(applying._stacks.get(model, []))):
        applied.remove()
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.model.diffusion_model.modules())


INPUT = (draw(0, 2, 4, 8, 8), torch.tensor([7, 300]))


def eps(model, context):
    return model.model.diffusion_model(*INPUT, context=context)


def contexts(count=2, seed=1):
    return [draw(seed + n, 2, 6, 32) for n in range(count)]


@torch.no_grad()
def test_a_unet_with_residuals_of_zero_and_after_the_edit_is_the_base_bit_for_bit(model, base):
    (context,) = contexts(1)
    plain = eps(model, context)
    edit = gate_edit(model, base, *CONCEPTS)
    asleep = {name: torch.zeros_like(t) if name.endswith(UP) else t for name, t in edit.tensors.items()}
    with edits.apply(model, Edit("cpe", list(CONCEPTS), {}, base.to_dict(), asleep, KIND), base):
        assert torch.equal(eps(model, context), plain)
    with edits.apply(model, edit, base) as applied:
        assert (eps(model, context) - plain).abs().max() > 0.1
        assert len(applied.matched) == len(layers_of(edit.tensors)) == 14
    assert torch.equal(eps(model, context), plain)


@torch.no_grad()
def test_every_projection_adds_what_the_definition_says(model):
    (context,) = contexts(1)
    edit = gate_edit(model, None, *CONCEPTS, rank=2)
    names = residual_gates.layer_names(unet_weights(model))
    wanted = plain_residuals(gates_of(edit, names), context)
    seen = {}
    unet = model.model.diffusion_model
    with edits.apply(model, edit):
        handles = [
            unet.get_submodule(name).register_forward_hook(lambda m, x, out, name=name: seen.update({name: out}))
            for name in names
        ]
        eps(model, context)
    for handle in handles:
        handle.remove()
    assert {len(residual[0, 0]) for residual in wanted.values()} == {64, 128}
    for name, residual in wanted.items():
        close(seen[name], context @ unet_weights(model)[f"{name}.weight"].T + residual)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_of_contexts_in_the_order_that_attacks_ask_for_them(model, checkpointed):
    """Twice in a row, two contexts before one backward pass, steps in place; checkpointed or not."""
    own = model if not checkpointed else model_of_two_widths(True)
    edit = gate_edit(own, None, *CONCEPTS)
    names = residual_gates.layer_names(unet_weights(own))
    gates, unet = gates_of(edit, names), own.model.diffusion_model

    def loss(*contexts):
        return sum(eps(own, context).square().mean() for context in contexts)

    def by_definition(*contexts):
        """Of an unchanged UNet whose projections are told what to add."""
        total = 0.0
        for context in contexts:
            found = plain_residuals(gates, context)
            handles = [
                unet.get_submodule(name).register_forward_hook(lambda _, __, out, add=add: out + add)
                for name, add in found.items()
            ]
            total = total + loss(context)
            if checkpointed:
                total.backward()  # while the hooks are there
                total = total.detach()
            for handle in handles:
                handle.remove()
        return total

    def gradients(function, chosen):
        chosen = [context.detach().clone().requires_grad_() for context in chosen]
        total = function(*chosen)
        if total.requires_grad:
            total.backward()
        return [context.grad for context in chosen]

    first, second = contexts(2)
    expected = gradients(by_definition, [first, second])
    moved = gradients(by_definition, [first + 0.5])
    with edits.apply(own, edit):
        for _ in range(2):
            for ours, theirs in zip(gradients(loss, [first, second]), expected, strict=True):
                close(ours, theirs, 1e-4 * theirs.abs().max().item())
        attacked = first.clone().requires_grad_()
        loss(attacked).backward()
        attacked.data += 0.5
        attacked.grad = None
        loss(attacked).backward()
        close(attacked.grad, moved[0], 1e-4 * moved[0].abs().max().item())


@torch.no_grad()
def test_other_edits_below_and_above(model, base):
    """A tensor edit and a map of the conditioning under the gates and over them; they leave in reverse order."""
    (context,) = contexts(1)
    key = f"{PROJECTION}.weight"
    moved = Edit("esd", ["x"], {}, base.to_dict(), {key: unet_weights(model)[key] + draw(5, 64, 32)}, "tensors")
    uce = Edit(
        "uce", ["y"], {}, base.to_dict(), ContextMap(0.1 * draw(6, 2, 32), draw(7, 2, 32)).tensors(), "context_map"
    )
    gates = gate_edit(model, base, *CONCEPTS)
    plain = eps(model, context)
    for other in (moved, uce):
        seen = []
        for order in ((other, gates), (gates, other)):
            applied = [edits.apply(model, edit, base) for edit in order]
            seen.append(eps(model, context))
            with pytest.raises(UserError, match="cannot be removed before"):
                applied[0].remove()
            applied[1].remove()
            alone = eps(model, context)
            assert (alone - seen[-1]).abs().max() > 1e-3
            applied[0].remove()
            assert torch.equal(eps(model, context), plain)
            with edits.apply(model, order[0], base):
                assert torch.equal(eps(model, context), alone)
        assert torch.equal(*seen)


def test_gates_of_two_edits_are_refused(model, base):
    first, second = gate_edit(model, base), gate_edit(model, base, "elon musk", seed=3)
    with edits.apply(model, first, base):
        with pytest.raises(UserError, match="of drake is in the model: gates of several files are given together"):
            edits.apply(model, second, base)
        with pytest.raises(UserError, match="in the model already"):
            edits.apply(model, first, base)
