"""Shifts of the keys and values of cross-attention against SepCE's own files (batch item 0, all that they get right)."""

import re

import pytest
import torch

from ldm.models.diffusion.ddpm import DiffusionWrapper
from ldm.modules import kv_shift
from ldm.modules.attention import CrossAttention2
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_gradient, weights_from_formula


def _numbered(tensors, prefix):
    """Tensors ``prefix.0``, ``prefix.1`` ... in numerical order."""
    keys = [key for key in tensors if re.fullmatch(re.escape(prefix) + r"\.\d+", key)]
    return [tensors[key] for key in sorted(keys, key=lambda key: int(key.rpartition(".")[2]))]


@pytest.fixture
def attention():
    meta, tensors = load("ldm/sepce_cross_attention")
    layer = CrossAttention2(**meta["kwargs"])
    layer.load_state_dict({key[2:]: value.float() for key, value in tensors.items() if key.startswith("w.")})
    params = [*_numbered(tensors, "add_k"), *_numbered(tensors, "add_v")]
    return tensors, layer, (params, _numbered(tensors, "base"), [0])


def test_layer_shift(attention):
    tensors, layer, add_params = attention
    x, context = tensors["x"], tensors["context"]
    assert_close(layer(x, context), tensors["out_plain"], what="plain")
    out = layer(x, context, add_params=add_params)
    assert_close(out, tensors["out_merged_weights"], what="every item its own")
    assert_close(out[:1], tensors["out_add"][:1], what="first item")


def test_layer_gradients(attention):
    """The original gives every item the shift of item 0's context: so do equal contexts, told apart after to_k, to_v."""
    tensors, layer, add_params = attention
    for matrix in add_params[0]:
        matrix.requires_grad_()
    first = tensors["context"][:1].expand_as(tensors["context"])
    for projection in (layer.to_k, layer.to_v):
        own = projection(tensors["context"] - first).detach()
        projection.register_forward_hook(lambda module, inputs, out, own=own: out + own)
    out = layer(tensors["x"], first, add_params=add_params)
    assert_close(out, tensors["out_add"])
    (out * tensors["cotangent"]).sum().backward()
    expected = [*_numbered(tensors, "grad_add_k"), *_numbered(tensors, "grad_add_v")]
    for matrix, gradient in zip(add_params[0], expected, strict=True):
        assert_gradient(matrix.grad, gradient)


def test_layer_second_context(attention):
    tensors, layer, _ = attention
    out, difference = layer(tensors["x"], tensors["context"], context2=tensors["context2"])
    assert_close(out, tensors["out_context2"])
    assert_close(difference, tensors["d_sim"])


@pytest.fixture(scope="module")
def unet():
    meta, tensors = load("ldm/sepce_unet")
    config = {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": meta["unet_kwargs"]}
    model = DiffusionWrapper(config, "crossattn").eval()
    network = model.diffusion_model
    assert [name for name, _ in network.named_parameters()] == meta["named_parameters_order"]
    weights_from_formula(network)
    return meta, tensors, model


def _run(model, tensors):
    return model(tensors["x"], tensors["t"], c_crossattn=[tensors["cond"]])


def test_unet_order_of_the_matrices(unet):
    meta, _, model = unet
    layers = kv_shift.cross_attentions(model.diffusion_model)
    concepts = range(meta["n_concepts"])
    order = [f"{name}.{p}.weight concept {n}" for name in layers for p in ("to_k", "to_v") for n in concepts]
    assert order == meta["param_kv_order"]


def test_unet_shift_and_gradients(unet):
    _, tensors, model = unet
    params, bases = _numbered(tensors, "param_kv"), _numbered(tensors, "base")
    for matrix in params:
        matrix.requires_grad_()
    with torch.no_grad():
        assert_close(_run(model, tensors), tensors["eps_plain"])
    with kv_shift.shifted(model.diffusion_model, params, bases):
        out = _run(model, tensors)
        assert_close(out, tensors["eps_add"])
        (out * tensors["cotangent"]).sum().backward()  # recomputes the blocks: the shift has to be there still
    for number, gradient in enumerate(_numbered(tensors, "grad_param_kv")):
        # Normalising 1 channel of 2x2 pixels magnifies rounding: the recorded gradients are 4.7e-4 off a float64 run.
        assert_gradient(params[number].grad, gradient, f"matrix {number}", rtol=6e-4)
    with torch.no_grad():
        assert_close(_run(model, tensors), tensors["eps_plain"], what="after the shift is taken away")


@torch.no_grad()
def test_unet_second_context(unet):
    meta, tensors, model = unet
    with kv_shift.logit_differences(model.diffusion_model, tensors["cond2"]) as found:
        assert_close(_run(model, tensors), tensors["context2_eps"])
    assert [list(value.shape) for value in found.values()] == meta["context2_attn_set_shapes"]
    assert list(found) == list(kv_shift.cross_attentions(model.diffusion_model))


@torch.no_grad()
def test_unet_merging(unet):
    _, tensors, model = unet
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kv_shift.merge(model.diffusion_model, _numbered(tensors, "param_kv"), _numbered(tensors, "base"))
    assert_close(_run(model, tensors), tensors["eps_merged"])
    model.load_state_dict(before)


@torch.no_grad()
def test_unet_every_item_of_a_batch_is_shifted_by_its_own_context(unet):
    _, tensors, model = unet
    contexts = torch.cat([tensors["cond"], tensors["cond2"]])
    x, t = tensors["x"].expand(2, -1, -1, -1), tensors["t"].expand(2)
    with kv_shift.shifted(model.diffusion_model, _numbered(tensors, "param_kv"), _numbered(tensors, "base")):
        together = model(x, t, c_crossattn=[contexts])
        alone = [model(x[:1], t[:1], c_crossattn=[context[None]]) for context in contexts]
    assert_close(together, torch.cat(alone), 5e-5)
