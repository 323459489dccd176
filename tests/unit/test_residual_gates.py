"""Residual attention gates in a UNet: the formula, contexts that change, gradients, the edit's way in and out, and its files."""

import contextlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from erasure import edits
from erasure.base_models import BaseIdentity
from erasure.edits import ContextMap, Edit, applying, residual_gates
from erasure.edits.residual_gates import DOWN, KIND, QUERY, SCALER, UP, gates_of, layers_of
from erasure.errors import UserError
from erasure.runs import tensors_sha256
from ldm.modules import residual_gate
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.modules.residual_gate import Gates, attach, gate
from tests.gates import gate_tensors
from tests.tiny import tiny_config, tiny_model

UNET = "model.diffusion_model."
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


def small_model(checkpointed=False):
    """Layers of two widths."""
    config = tiny_config()
    config["model"]["params"]["unet_config"]["params"] |= {"channel_mult": [1, 2], "use_checkpoint": checkpointed}
    return tiny_model(config=config).requires_grad_(False)


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def base(model):
    return BaseIdentity("tiny", "tiny.safetensors", "tiny.yaml", "only", tensors_sha256(unet_of(model)), "toy")


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


def unet_of(model):
    return {name.removeprefix(UNET): w for name, w in model.state_dict().items() if name.startswith(UNET)}


def edit_of(model, base=None, *concepts, seed=0, settings=(), **shape):
    concepts = concepts or ("drake",)
    found = [
        Edit("cpe", [c], dict(settings), base.to_dict() if base else {}, gate_tensors(model, seed + n, **shape), KIND)
        for n, c in enumerate(concepts)
    ]
    return found[0] if len(found) == 1 else edits.compose(found)


INPUT = (draw(0, 2, 4, 8, 8), torch.tensor([7, 300]))


def eps(model, context):
    return model.model.diffusion_model(*INPUT, context=context)


def contexts(count=2, seed=1):
    return [draw(seed + n, 2, 6, 32) for n in range(count)]


@torch.no_grad()
def test_a_unet_with_residuals_of_zero_and_after_the_edit_is_the_base_bit_for_bit(model, base):
    (context,) = contexts(1)
    plain = eps(model, context)
    edit = edit_of(model, base, *CONCEPTS)
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
    edit = edit_of(model, None, *CONCEPTS, rank=2)
    names = residual_gates.layer_names(unet_of(model))
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
        close(seen[name], context @ unet_of(model)[f"{name}.weight"].T + residual)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_of_contexts_in_the_order_that_attacks_ask_for_them(model, checkpointed):
    """Twice in a row, two contexts before one backward pass, steps in place; checkpointed or not."""
    own = model if not checkpointed else small_model(True)
    edit = edit_of(own, None, *CONCEPTS)
    names = residual_gates.layer_names(unet_of(own))
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
    moved = Edit("esd", ["x"], {}, base.to_dict(), {key: unet_of(model)[key] + draw(5, 64, 32)}, "tensors")
    uce = Edit(
        "uce", ["y"], {}, base.to_dict(), ContextMap(0.1 * draw(6, 2, 32), draw(7, 2, 32)).tensors(), "context_map"
    )
    gates = edit_of(model, base, *CONCEPTS)
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
    first, second = edit_of(model, base), edit_of(model, base, "elon musk", seed=3)
    with edits.apply(model, first, base):
        with pytest.raises(UserError, match="of drake is in the model: gates of several files are given together"):
            edits.apply(model, second, base)
        with pytest.raises(UserError, match="in the model already"):
            edits.apply(model, first, base)


def changed(tensors, **parts):
    """Tensors with those whose names end in a part replaced by a function of them, or left out (None)."""
    ends = {"up": UP, "down": DOWN, "query": QUERY, "scaler": SCALER, "alpha": residual_gates.ALPHA}
    found = dict(tensors)
    for part, function in parts.items():
        name = next(name for name in found if name.endswith(ends[part]))
        if function is None:
            del found[name]
        else:
            found[name] = function(found[name])
    return found


def without_layer(tensors):
    layer = layers_of(tensors)[0]
    return {name: t for name, t in tensors.items() if not name.startswith(layer)}


DAMAGED = {
    "no query": (lambda t: changed(t, query=None), "w_qs.weight is missing"),
    "no up": (lambda t: changed(t, up=None), r"lora_up.weight is missing"),
    "no alpha": (lambda t: changed(t, alpha=None), r"alpha is missing"),
    "more": (lambda t: t | {"other": torch.ones(1)}, "also has other"),
    "no layer": (lambda t: {n: v for n, v in t.items() if n.startswith("attention_gate")}, "no layer has a residual"),
    "flat": (lambda t: changed(t, query=lambda v: v[0]), "not stacked over concepts"),
    "wider scaler": (lambda t: changed(t, scaler=lambda v: v.repeat(1, 1, 2)), r"\[1, 32, 2\], not \[1, 32, 1\]"),
    "two concepts in one layer": (lambda t: changed(t, up=lambda v: v.repeat(2, 1, 1)), "not the gates of 1 concepts"),
    "another rank": (
        lambda t: changed(t, up=lambda v: v.repeat(1, 2, 1), down=lambda v: v.repeat(1, 1, 2)),
        "different rank or alpha",
    ),
    "another alpha": (lambda t: changed(t, alpha=lambda v: v * 2), "different rank or alpha"),
    "none": (lambda t: {n: v[:0] if v.ndim else v for n, v in t.items()}, "has no values"),
    "rank 0": (lambda t: {n: v[:, :, :0] if n.endswith(DOWN) else v[:, :0] if n.endswith(UP) else v
                          for n, v in t.items()}, "has no values"),
}  # fmt: skip
UNFIT = {
    "narrower": (lambda t: changed(t, up=lambda v: v[..., 1:]), "for another model: .* in the model"),
    "NaN": (lambda t: changed(t, up=lambda v: v * float("nan")), "NaN or infinite"),
    "infinite gate": (lambda t: changed(t, scaler=lambda v: v / 0), "NaN or infinite"),
    "a layer less": (without_layer, "for another model: it has nothing for"),
    "a layer more": (
        lambda t: t | {n.replace("blocks_0", "blocks_9"): v.clone() for n, v in t.items() if "down_blocks_0" in n},
        "tensors that the model does not",
    ),
    "other layers": (lambda t: {n.replace("lora_unet_", "lora_te_"): v for n, v in t.items()}, "changes nothing"),
}


@pytest.mark.parametrize("case", [*DAMAGED, *UNFIT])
def test_what_is_no_gates_of_this_model(model, base, tmp_path, case):
    damage, words = (DAMAGED | UNFIT)[case]
    tensors = damage(gate_tensors(model))
    with pytest.raises(UserError, match=words):
        edits.apply(model, Edit("cpe", ["drake"], {}, base.to_dict(), tensors, KIND), base)
    path = tmp_path / "drake_last.safetensors"
    for header in (None, {"prompts": "drake", "rank": "1", "alpha": "1.0"}):  # as CPE writes them
        save_file({name: t.contiguous() for name, t in tensors.items()}, path, header)
        with pytest.raises(UserError, match=words):
            edits.apply(model, edits.read_gates(path), base)


def test_gates_of_another_base(model, base):
    other = BaseIdentity("other", "other.ckpt", "tiny.yaml", "only", "1" * 64, "toy")
    edit = edit_of(model, other)
    with pytest.raises(UserError, match="was made for other"):
        edits.apply(model, edit, base)
    edits.apply(model, edit, base, force=True).remove()
    edits.apply(model, edit_of(model), base).remove()  # a published file says no base
    two = [edit_of(model, base), edit_of(model, other, "elon musk", seed=1)]
    with pytest.raises(UserError, match="of another base than the other gates"):
        residual_gates.united(two)


# ---- names ---------------------------------------------------------------------------------------------------------

TOPOLOGIES = [
    (1, [1], [1]),
    (1, [1, 1], [2]),
    (2, [1, 2], [1, 2]),
    (3, [1, 1, 2], [1, 4]),
    (2, [1, 1, 1, 1], [4, 2, 1]),
]


@pytest.mark.parametrize(("blocks", "mult", "attention"), TOPOLOGIES)
def test_names_of_layers(blocks, mult, attention):
    """The published numbering, for any number of levels and of blocks in them."""
    with torch.device("meta"):
        unet = UNetModel(
            image_size=8, in_channels=4, out_channels=4, model_channels=32, num_res_blocks=blocks,
            attention_resolutions=attention, channel_mult=mult, num_heads=2, use_spatial_transformer=True,
            context_dim=8, legacy=False,
        )  # fmt: skip
    places = {}
    for level in range(len(mult)):
        if 2**level in attention:
            for j in range(blocks):
                places[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{1 + (blocks + 1) * level + j}.1"
    for up in range(len(mult)):
        if 2 ** (len(mult) - 1 - up) in attention:
            for j in range(blocks + 1):
                places[f"up_blocks.{up}.attentions.{j}"] = f"output_blocks.{(blocks + 1) * up + j}.1"
    places["mid_block.attentions.0"] = "middle_block.1"
    rest = "transformer_blocks.0.attn2"
    wanted = [
        (f"{old}.{rest}.to_{kind}", "lora_unet_" + f"{new}.{rest}.to_{kind}".replace(".", "_"))
        for new, old in places.items()
        for kind in "kv"
    ]
    names = residual_gates.layer_names(unet.state_dict())
    assert list(names.items()) == wanted
    assert set(names) == {name for name, _ in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))}


# ---- files ---------------------------------------------------------------------------------------------------------

names_of_people = st.text(max_size=20).filter(lambda s: "\0" not in s and s.isprintable())


@given(names_of_people, st.integers(1, 3), st.integers(1, 5), st.sampled_from([0.25, 1.0, 3.0]), st.booleans())
@settings(max_examples=15, deadline=None)
def test_a_file_comes_back_as_it_was_written(tmp_path_factory, model, base, name, rank, gate_rank, alpha, separate):
    tensors = gate_tensors(model, 4, gate_rank, rank)
    tensors = {n: torch.tensor(alpha) if n.endswith(".alpha") else t for n, t in tensors.items()}
    settings_ = {"separate_key": separate, "lr": 3e-4, "anchors": {"general": ["a"]}}
    edit = Edit("cpe", [name], settings_, base.to_dict(), tensors, KIND)
    path = tmp_path_factory.mktemp("gates") / "x_last.safetensors"
    residual_gates.save_gates(edit, path)
    found = edits.read_gates(path)
    for field in ("method", "concepts", "settings", "base", "kind"):
        assert getattr(found, field) == getattr(edit, field)
    assert found.tensors.keys() == tensors.keys()
    assert all(torch.equal(tensor, found.tensors[n]) for n, tensor in tensors.items())
    with safe_open(path, framework="pt") as file:
        header = file.metadata()
    assert (header["prompts"], header["rank"], header["alpha"]) == (name, str(rank), str(alpha))
    assert residual_gates.gate_rank(found) == gate_rank
    gates = gates_of(found, residual_gates.layer_names(unet_of(model)))
    assert (gates.separate_key, gates.scale) == (separate, alpha / rank)


def publish(model, path, seed=0, prompts="drake", **shape):
    """A file as CPE writes it: no header of ours."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = {"prompts": prompts, "rank": "1", "alpha": "1.0"} if prompts is not None else None
    save_file(gate_tensors(model, seed, **shape), path, header)
    return path


@pytest.mark.parametrize(
    ("prompts", "concept"),
    [("drake", "drake"), ("smith, will", "smith, will"), (None, "jake gyllenhaal"), ("", "jake gyllenhaal")],
)
def test_concepts_of_published_files(model, tmp_path, monkeypatch, prompts, concept):
    path = publish(model, tmp_path / "jake_gyllenhaal" / "x_last.safetensors", prompts=prompts)
    assert edits.is_gate_file(path) and not edits.is_edit(path)
    monkeypatch.chdir(path.parent)
    for name in (path, path.name):
        edit = edits.read_gates(name)
        assert (edit.method, edit.concepts, edit.base, edit.kind) == ("cpe", [concept], {}, KIND)


@given(st.permutations(range(3)), st.sets(st.integers(0, 2), min_size=1))
@settings(max_examples=12, deadline=None)
def test_a_selection_is_exactly_the_stack_of_the_selected(tmp_path_factory, model, base, order, chosen):
    alone = [edit_of(model, base, c, seed=n, settings={"seed": n}) for n, c in enumerate(CONCEPTS)]
    whole = edits.compose([alone[n] for n in order])
    direct = edits.compose([alone[n] for n in order if n in chosen])
    kept = edits.keep(whole, [CONCEPTS[n].upper() for n in chosen])
    dropped = edits.drop(whole, [CONCEPTS[n] for n in range(3) if n not in chosen])
    again = edits.keep(edits.compose([direct, *(alone[n] for n in order if n not in chosen)]), direct.concepts)
    folder = tmp_path_factory.mktemp("selections")
    for n, edit in enumerate((direct, kept, dropped, again)):
        edit.versions = {}
        residual_gates.save_gates(edit, folder / f"{n}.safetensors")
        assert (folder / f"{n}.safetensors").read_bytes() == (folder / "0.safetensors").read_bytes()


@torch.no_grad()
def test_files_in_a_model_and_a_concept_less(model, base, tmp_path):
    """Of a folder all concepts, or all but some: what was left out is not missed by a bit."""
    (context,) = contexts(1)
    for n, concept in enumerate(CONCEPTS):
        edit = edit_of(model, base if n else None, concept, seed=n)
        residual_gates.save_gates(edit, tmp_path / concept.replace(" ", "_") / "x_last.safetensors")

    def seen(path, **options):
        with edits.load_into(model, base, path, **options):
            return eps(model, context)

    whole = seen(tmp_path)
    without = seen(tmp_path, without=["Elon Musk"])
    assert (whole - without).abs().max() > 1e-3
    (tmp_path / "elon_musk").rename(tmp_path.with_name("away"))
    assert torch.equal(seen(tmp_path), without)
    only = seen(tmp_path / "drake" / "x_last.safetensors")
    assert torch.equal(seen(tmp_path, without=["emma stone"]), only)
    for left_out, words in ((["picasso"], "no part of 'picasso'"), (["drake", "emma stone"], "no gate is left")):
        with pytest.raises(UserError, match=words):
            seen(tmp_path, without=left_out)


def test_files_that_do_not_go_together(model, base, tmp_path):
    first = publish(model, tmp_path / "a_last.safetensors")
    for n, (shape, words) in enumerate(
        (({}, "the same concept: drake"), ({"gate_rank": 5}, "gate rank differs"), ({"rank": 2}, "their rank differs"))
    ):
        other = publish(model, tmp_path / f"{n}_last.safetensors", **shape)
        with pytest.raises(UserError, match=words):
            edits.read_gates([first, other])
    with pytest.raises(UserError, match="same concept"):
        edits.read_gates([first, first])
    edit = edit_of(model, base, "elon musk", settings={"separate_key": True})
    residual_gates.save_gates(edit, tmp_path / "s_last.safetensors")
    with pytest.raises(UserError, match="separate_key differs"):
        edits.read_gates([first, tmp_path / "s_last.safetensors"])
    with pytest.raises(UserError, match="no files of gates"):
        edits.read_gates([])


def test_which_files_of_a_folder_are_gates(model, tmp_path):
    wanted = ["b/x_last.safetensors", "a/y_last.safetensors", "z_last.safetensors", "a/b_last.safetensors"]
    others = ["a/x_adv_prompts_last.safetensors", "a/x_stage3.safetensors", "a/b/deep_last.safetensors", "a/x_last.pt",
              "a/.x_last.1-2.tmp.safetensors", "checkpoint.safetensors"]  # fmt: skip
    for name in [*wanted, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [str(f.relative_to(tmp_path)) for f in edits.gate_files(tmp_path)] == sorted(wanted)
    assert edits.gate_files(tmp_path / "a/x_stage3.safetensors") == [tmp_path / "a/x_stage3.safetensors"]
    assert edits.has_gates(tmp_path) and edits.has_gates(tmp_path / "a") and not edits.has_gates(tmp_path / "a/x")
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=path.name):
            edits.read_gates(path)


def test_damaged_files(model, base, tmp_path):
    good = publish(model, tmp_path / "x_last.safetensors")
    content = good.read_bytes()
    deep = b"[" * 100_000
    for n, (damaged, names_are_there) in enumerate(
        (
            (content[:-100], True),
            (content[:200], False),
            (b"", False),
            (b"\x80\x04K\x01.", False),
            (len(deep).to_bytes(8, "little") + deep, False),
            ((2).to_bytes(8, "little") + b"[]", False),
            ((1 << 60).to_bytes(8, "little") + b"{}", False),
        )
    ):
        path = tmp_path / f"{n}_last.safetensors"
        path.write_bytes(damaged)
        assert edits.is_gate_file(path) == names_are_there
        with pytest.raises(UserError, match=path.name):
            edits.read_gates(path)
        with pytest.raises(UserError, match=path.name):
            edits.load_into(model, base, path)
    assert not edits.is_gate_file(tmp_path / "none.safetensors") and not edits.is_gate_file(tmp_path)
    weights = Edit("esd", ["x"], {}, base.to_dict(), {"a": torch.ones(1)})
    edits.save(weights, tmp_path / "esd.safetensors")
    with pytest.raises(UserError, match="the esd edit of x, not gates"):
        edits.read_gates(tmp_path / "esd.safetensors")
    named = Edit("cpe", ["a", "b"], {}, {}, gate_tensors(model), KIND)
    edits.save(named, tmp_path / "named.safetensors")
    with pytest.raises(UserError, match="the gates of 1 concepts, and the header names 2"):
        edits.read_gates(tmp_path / "named.safetensors")
    spoilt = Edit("cpe", ["a"], {}, {}, changed(gate_tensors(model), up=lambda t: t * float("nan")), KIND)
    with pytest.raises(UserError, match="NaN"):
        residual_gates.save_gates(spoilt, tmp_path / "spoilt.safetensors")
    assert not (tmp_path / "spoilt.safetensors").exists()
