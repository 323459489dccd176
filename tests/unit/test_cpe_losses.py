"""CPE's losses, which never apply a projection, against their definition, which does; anchors that are drawn by halves."""

import dataclasses
import random
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.edits.residual_gates import DOWN, KEY, QUERY, SCALER, UP, layer_names
from methods.cpe import losses, sampling
from methods.cpe.anchors import StateCache
from methods.cpe.projections import Projections
from methods.cpe.residuals import Residuals
from tests.tiny import model_of_short_prompts

# ---- the definition ------------------------------------------------------------------------------------------------


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cross_attentions(seed, widths, dim):
    """(weights of as many cross-attentions, {projection: layer in a file}), float64 that is exact in float32."""
    weights, names = {}, {}
    for n, width in enumerate(widths):
        sizes = {"to_q": (width, width), "to_k": (width, dim), "to_v": (width, dim), "to_out.0": (width, width)}
        for i, (part, shape) in enumerate(sizes.items()):
            weights[f"block{n}.attn2.{part}.weight"] = draw(seed + 10 * n + i, *shape).float().double()
        names |= {f"block{n}.attn2.{kind}": f"layer{n}_{kind}" for kind in ("to_k", "to_v")}
    return weights, names


def strength(weights, name, tokens):
    block = name.rpartition(".")[0]
    q, v, o = (weights[f"{block}.{part}.weight"] for part in ("to_q", "to_v", "to_out.0"))

    def norm(matrix):
        return torch.linalg.svdvals(matrix).max()

    return norm(o) if name.endswith("to_v") else norm(o @ v) * norm(q) / tokens


def in_double(projections, weights, tokens):
    """The same projections, with all that was rounded to float32 worked out again."""
    c = torch.stack([strength(weights, name, tokens) for name in projections.names])
    matrices = [weights[f"{name}.weight"] for name in projections.names]
    forms = [
        sum(
            c[i] / (len(matrices) * len(w)) * w.T @ w
            for i, w in enumerate(matrices)
            if projections.names[i].endswith(kind)
        )
        for kind in ("to_k", "to_v")
    ]
    groups = [(places, group.double()) for places, group in projections.groups]
    return dataclasses.replace(projections, strength=c, groups=groups, forms=torch.stack(forms))


class Definition:
    """F0(x) = W x and F(x) = W x + alpha / rho g e down up, one layer after the other; tensors as in a file of gates."""

    def __init__(self, weights, names, tensors, alpha, separate_key, tokens):
        self.weights, self.names, self.tensors, self.tokens = weights, names, tensors, tokens
        self.alpha, self.separate_key = alpha, separate_key

    def plain(self, name, x):
        return x @ self.weights[f"{name}.weight"].T

    def gated(self, name, x):
        w_q, v = (self.tensors[part][0] for part in (QUERY, SCALER))
        w_k = self.tensors[KEY][0] if self.separate_key else w_q
        e = torch.softmax((x @ w_q) @ (x @ w_k).transpose(-1, -2), dim=-1) @ x
        down, up = (self.tensors[self.names[name] + part][0] for part in (DOWN, UP))
        return self.plain(name, x) + self.alpha / down.shape[1] * torch.sigmoid(e @ v) * e @ down @ up

    def mean(self, kind, difference):
        """(1 / L) sum over the projections of a kind of c mean[difference^2]."""
        parts = [
            strength(self.weights, name, self.tokens) * difference(name).square().mean()
            for name in self.names
            if name.endswith(kind)
        ]
        return sum(parts) / len(self.names)

    def both(self, difference):
        return [self.mean(kind, difference) for kind in ("to_k", "to_v")]

    def goal(self, name, target, neutral, guidance):
        return (1 + guidance) * self.plain(name, neutral) - guidance * self.plain(name, target)

    def erasing(self, target, neutral, guidance):
        return self.both(lambda n: self.goal(n, target, neutral, guidance) - self.gated(n, target[None])[0])

    def adversarial(self, target, neutral, guidance, offsets):
        return self.both(lambda n: self.goal(n, target, neutral, guidance) - self.gated(n, target + offsets))

    def anchoring(self, protected):
        return self.both(lambda n: self.plain(n, protected) - self.gated(n, protected))

    def attacking(self, target, offsets):
        return self.both(lambda n: self.gated(n, target + offsets) - self.plain(n, target))


@st.composite
def problems(draw_):
    """Layers of several widths, ranks, numbers of offsets and of anchors."""
    widths = draw_(st.lists(st.sampled_from([2, 3, 5]), min_size=1, max_size=4))
    number = {name: draw_(st.integers(1, most)) for name, most in (("tokens", 5), ("dim", 6), ("offsets", 4),
                                                                    ("anchors", 4), ("gate_rank", 3), ("rank", 3))}  # fmt: skip
    return SimpleNamespace(
        seed=draw_(st.integers(0, 9999)),
        widths=widths,
        separate_key=draw_(st.booleans()),
        alpha=draw_(st.sampled_from([1.0, 0.5])),
        guidance=draw_(st.sampled_from([0.0, 0.3, 3.0])),
        **number,
    )


def made(p):
    """(projections, residuals, definition) of a problem; the definition's tensors are leaves, the residuals' too."""
    weights, names = cross_attentions(p.seed, p.widths, p.dim)
    projections = in_double(Projections.of_weights(weights, names, p.tokens), weights, p.tokens)
    ups = [
        0.5 * draw(p.seed + 1 + i, len(places), p.rank, w.shape[1]) for i, (places, w) in enumerate(projections.groups)
    ]
    shapes = ((p.dim, p.gate_rank), (p.dim, p.gate_rank), (p.dim, 1), (p.dim, len(names), p.rank))
    parts = [draw(p.seed + 50 + i, *shape) for i, shape in enumerate(shapes)]
    residuals = Residuals(*parts, ups, p.alpha, p.separate_key)
    tensors = {n: t.requires_grad_() for n, t in residuals.tensors(projections).items() if t.ndim}
    for tensor in residuals.trained().values():
        tensor.requires_grad_()
    return projections, residuals, Definition(weights, names, tensors, p.alpha, p.separate_key, p.tokens)


def states(p):
    """(target, neutral, protected, offsets)."""
    one = (p.tokens, p.dim)
    offsets = 0.3 * draw(p.seed + 73, p.offsets, *one)
    return draw(p.seed + 70, *one), draw(p.seed + 71, *one), draw(p.seed + 72, p.anchors, *one), offsets


def close(value, expected, scale=1.0):
    assert (value - expected).abs().max() <= 1e-9 * (scale + torch.as_tensor(expected).abs().max()), (value, expected)


def same_gradients(projections, residuals, definition, value, expected):
    trained = residuals.trained()
    found = dict(zip(trained, torch.autograd.grad(value, trained.values()), strict=True))
    zero = torch.zeros_like(residuals.key)
    grads = Residuals(
        found["query"], found.get("key", zero), found["scaler"], found["down"],
        [found[f"up{i}"] for i in range(len(residuals.ups))],
    )  # fmt: skip
    grads = {name: t for name, t in grads.tensors(projections).items() if t.ndim}
    theirs = torch.autograd.grad(expected, definition.tensors.values(), allow_unused=True)
    largest = max(g.abs().max() for g in theirs if g is not None)
    assert grads.keys() == definition.tensors.keys()
    for name, gradient in zip(definition.tensors, theirs, strict=True):
        close(grads[name], torch.zeros_like(grads[name]) if gradient is None else gradient, largest)


# ---- losses --------------------------------------------------------------------------------------------------------


@given(problems(), st.booleans())
@settings(max_examples=60, deadline=None)
def test_erasing_losses_are_the_definition(p, attacked):
    projections, residuals, definition = made(p)
    target, neutral, protected, offsets = states(p)
    pal, adv_coef = 7.0, 0.6
    newest = losses.Offsets.of(projections, offsets) if attacked else None
    found = losses.erase_losses(projections, residuals, target, neutral, protected, p.guidance, pal, newest, adv_coef)
    parts = {"erasing": definition.erasing(target, neutral, p.guidance), "anchoring": definition.anchoring(protected)}
    if attacked:
        parts["adversarial"] = definition.adversarial(target, neutral, p.guidance, offsets)
    total = sum(sum(split) * {"anchoring": pal, "adversarial": adv_coef}.get(n, 1) for n, split in parts.items())
    scale = total.detach()
    for name, (keys, values) in parts.items():
        split = getattr(found, name)
        close(split.keys, keys, scale), close(split.values, values, scale)
    close(found.total, total)
    assert (found.adversarial is None) == (not attacked)
    numbers = found.numbers()
    assert numbers["loss"] == found.total.item() and numbers["anchoring_k"] == found.anchoring.keys.item()
    assert set(numbers) == {"loss", *(f"{name}{end}" for name in parts for end in ("", "_k", "_v"))}
    same_gradients(projections, residuals, definition, found.total, total)


@given(problems())
@settings(max_examples=40, deadline=None)
def test_attacking_loss_is_the_definition(p):
    projections, residuals, definition = made(p)
    target, _, _, offsets = states(p)
    ours, theirs = offsets.clone().requires_grad_(), offsets.clone().requires_grad_()
    with torch.no_grad():
        bilinear = losses.Bilinear(projections, residuals)
    found = losses.attack_loss(projections, residuals, bilinear, target, ours)
    keys, values = definition.attacking(target, theirs)
    scale = (keys + values).detach()
    close(found.total, keys + values)
    close(found.keys, keys, scale), close(found.values, values, scale)
    numbers = found.numbers("loss")
    assert list(numbers) == ["loss", "loss_k", "loss_v"]
    close(torch.tensor(numbers["loss"]).double(), scale, 100 * scale)
    (gradient,), (expected,) = (torch.autograd.grad(v, [x]) for v, x in ((found.total, ours), (keys + values, theirs)))
    close(gradient, expected, expected.abs().max())


def test_offsets_of_zero_attack_nothing_and_erase_as_the_target_does():
    p = SimpleNamespace(seed=3, widths=[2, 5], separate_key=False, alpha=1.0, guidance=0.3, tokens=4, dim=6, offsets=3,
                        anchors=2, gate_rank=2, rank=2)  # fmt: skip
    projections, residuals, _ = made(p)
    target, neutral, protected, offsets = states(p)
    newest = losses.Offsets.of(projections, torch.zeros_like(offsets))
    found = losses.erase_losses(projections, residuals, target, neutral, protected, 0.3, 1.0, newest)
    close(found.adversarial.total, found.erasing.total)
    asleep = Residuals(residuals.query, residuals.key, residuals.scaler, residuals.down, [0 * u for u in residuals.ups])
    nothing = losses.attack_loss(
        projections, asleep, losses.Bilinear(projections, asleep), target, torch.zeros_like(offsets)
    )
    assert nothing.total == 0


def test_fresh_offsets_are_almost_nothing():
    found = losses.fresh_offsets(16, 9, 24, torch.Generator().manual_seed(0))
    bound = 1 / (9 * 24) ** 0.5 / 24**2
    assert found.shape == (16, 9, 24) and found.abs().max() <= bound
    assert found.abs().max() > 0.99 * bound and abs(found.mean()) < 0.02 * bound


# ---- projections and residuals -------------------------------------------------------------------------------------


@given(st.integers(0, 999), st.lists(st.sampled_from([2, 3, 5]), min_size=1, max_size=4), st.integers(1, 6))
@settings(max_examples=20, deadline=None)
def test_strengths_and_forms(seed, widths, dim):
    weights, names = cross_attentions(seed, widths, dim)
    found = Projections.of_weights(weights, names, 77)
    exact = in_double(found, weights, 77)
    assert found.widths == [w for w in widths for _ in "kv"] and found.dim == dim
    for ours, theirs in ((found.strength, exact.strength), (found.forms, exact.forms)):
        assert ours.dtype == torch.float32 and torch.allclose(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    together = {int(i): w for places, group in found.groups for i, w in zip(places, group, strict=True)}
    assert all(torch.equal(together[i].double(), weights[f"{name}.weight"]) for i, name in enumerate(found.names))


def test_projections_of_a_unet():
    unet = model_of_short_prompts(levels=1).model.diffusion_model
    found = Projections.of(unet, 8)
    assert list(zip(found.names, found.layers, strict=True)) == list(layer_names(unet.state_dict()).items())
    assert not found.forms.requires_grad and torch.isfinite(found.forms).all()


@given(problems())
@settings(max_examples=20, deadline=None)
def test_residuals_are_the_same_after_a_file(p):
    projections, residuals, _ = made(p)
    tensors = residuals.tensors(projections)
    back = Residuals.of_tensors(tensors, projections, p.separate_key)
    assert (back.alpha, back.scale) == (p.alpha, p.alpha / p.rank)
    assert back.trained().keys() == residuals.trained().keys() and ("key" in back.trained()) == p.separate_key
    for name, tensor in residuals.trained().items():
        assert torch.equal(back.trained()[name], tensor) and not back.trained()[name].requires_grad
    assert all(torch.equal(back.tensors(projections)[name], tensor) for name, tensor in tensors.items())


def test_fresh_residuals_do_nothing_and_are_drawn_within_the_published_bounds():
    weights, names = cross_attentions(0, [3, 5], 64)
    projections = Projections.of_weights(weights, names, 7)
    found, other = (Residuals.fresh(projections, 16, 2, 1.0, False, torch.Generator().manual_seed(s)) for s in (0, 1))
    assert not torch.equal(found.query, other.query) and not torch.equal(found.query, found.key)
    for tensor, bound in ((found.query, (64 * 16) ** -0.5 / 64**2), (found.down, (64 * 2) ** -0.5)):
        assert 0.98 * bound < tensor.abs().max() <= bound and abs(tensor.mean()) < 0.1 * bound
    assert not found.scaler.any() and not any(up.any() for up in found.ups)
    x = draw(3, 2, 7, 64).float()
    split = losses.erase_losses(projections, found, x[0], x[1], x, 0.0, 1.0)
    assert split.anchoring.total == 0
    assert split.erasing.total.item() == pytest.approx(losses.form(projections.forms, (x[1] - x[0])[None]).sum().item())


# ---- anchors -------------------------------------------------------------------------------------------------------

DRAWS = 6000


def test_half_the_noise_has_the_same_mean_and_variance():
    """Against the published form and against what both should be, for every element."""
    generator = torch.Generator().manual_seed(0)
    states = 5 * torch.randn(4, 2, 3, generator=generator)
    mix = torch.tensor([0.2, 0.9], dtype=torch.float64)
    scale = 0.1
    noises = torch.randn(DRAWS, 4, 2, 3, generator=generator)
    published = torch.stack([sampling.anchors_of(states, noise, mix, scale) for noise in noises])
    halves = torch.randn(DRAWS, 2, 2, 3, generator=generator)
    ours = torch.stack([sampling.mixed_anchors(states, noise, mix, scale) for noise in halves])
    first, second = states[::2], states[1::2]
    lam = mix.float()[:, None, None]
    mean = lam * first + (1 - lam) * second
    sigma = scale * states.flatten(1).norm(dim=1)
    variance = ((lam * sigma[::2, None, None]) ** 2 + ((1 - lam) * sigma[1::2, None, None]) ** 2).expand_as(mean)
    for found in (published, ours):
        assert found.shape == (DRAWS, 2, 2, 3) and found.dtype == torch.float32
        assert ((found.mean(0) - mean).abs() <= 5 * (variance / DRAWS).sqrt()).all()
        assert ((found.var(0) / variance - 1).abs() <= 5 * (2 / DRAWS) ** 0.5).all()


@given(st.integers(0, 999), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_without_noise_both_forms_are_the_same_mixture(seed, count):
    states, noise = draw(seed, 2 * count, 3, 4).float(), draw(seed + 1, 2 * count, 3, 4).float()
    mix = torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    published = sampling.anchors_of(states, noise, mix, 0.0)
    ours = sampling.mixed_anchors(states, noise[:count], mix, 0.0)
    torch.testing.assert_close(ours, published, rtol=1e-5, atol=1e-6)
    ends = sampling.mixed_anchors(states, noise[:count], torch.ones(count), 0.0)
    torch.testing.assert_close(ends, states[::2], rtol=1e-6, atol=1e-6)


def cache_of(count, *shape):
    values = torch.arange(count, dtype=torch.float32)
    return StateCache([(values.view(-1, *(1 for _ in shape)).expand(-1, *shape).clone(), torch.arange(count))])


def drawn(seed, count, scale=0.0, mixup=True, cache=None):
    generator = torch.Generator().manual_seed(seed)
    return sampling.draw_anchors(cache or cache_of(10, 1, 1), count, random.Random(seed), generator, scale, mixup)


def test_drawn_anchors_depend_on_the_generators_alone():
    torch.manual_seed(0)
    random.seed(0)
    state, other = torch.get_rng_state(), random.getstate()
    first = drawn(3, 5, 0.1)
    assert torch.equal(torch.get_rng_state(), state) and random.getstate() == other
    assert torch.equal(drawn(3, 5, 0.1), first) and not torch.equal(drawn(4, 5, 0.1), first)


def test_drawn_anchors_lie_anywhere_between_two_states():
    found = drawn(0, 4000).flatten()
    assert found.min() >= 0 and found.max() <= 9
    assert abs(found.mean() - 4.5) < 0.15
    # of l a + (1 - l) b with l uniform: two thirds of the variance of a state
    assert found.var() / (99 / 12 * 2 / 3) == pytest.approx(1, abs=0.08)
    apart = drawn(0, 4000, mixup=False).flatten()
    assert torch.equal(apart, apart.round()) and apart.unique().tolist() == list(range(10))
    assert torch.bincount(apart.long()).min() > 300


def test_noise_is_in_proportion_to_the_state():
    cache = StateCache([(torch.full((1, 3, 4), 5.0), torch.zeros(4, dtype=torch.int64))])
    found = drawn(0, 2000, 0.01, mixup=False, cache=cache)
    assert found.std() == pytest.approx(0.01 * 5 * 12**0.5, rel=0.05)
    assert found.mean() == pytest.approx(5, abs=0.01)
