"""The UNet against the original: outputs, gradients, frozen parameters, checkpointing, key order."""

import pytest
import torch

from ldm.util import get_obj_from_str
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_gradient, weights_from_formula

CASES = ("ldm/unet_xattn", "ldm/unet_attnblock")


def build(meta, tensors, **overrides):
    module = get_obj_from_str(meta["class"])(**{**meta["kwargs"], **overrides})
    if "weights_formula" in meta:
        assert [n for n, _ in module.named_parameters()] == meta["named_parameters_order"]
        weights_from_formula(module)
    else:
        module.load_state_dict({k[2:]: v.float() for k, v in tensors.items() if k.startswith("w.")})
    return module


def arguments(tensors, first=False, x="in.x"):
    keys = [k for k in ("in.context", "in.y") if k in tensors]
    out = {k[3:]: tensors[k][:1] if first else tensors[k] for k in keys}
    return tensors[x], {"timesteps": tensors["in.timesteps"][:1] if first else tensors["in.timesteps"], **out}


@pytest.mark.parametrize("name", CASES)
def test_keys_and_outputs(name):
    meta, tensors = load(name)
    unet = build(meta, tensors)
    assert list(unet.state_dict()) == meta["state_dict_keys_in_order"]
    assert sum(p.numel() for p in unet.parameters()) == meta["n_params"]
    x, kwargs = arguments(tensors)
    with torch.no_grad():
        assert_close(unet(x, **kwargs), tensors["out"])
        fractional = {**kwargs, "timesteps": tensors["in.timesteps_float"]}
        assert_close(unet(x, **fractional), tensors["out.timesteps_float"])
        other, first = arguments(tensors, first=True, x="in.x_other_size")
        assert_close(unet(other, **first), tensors["out.x_other_size"])


@pytest.mark.parametrize("name", CASES)
def test_block_statistics(name):
    meta, tensors = load(name)
    unet = build(meta, tensors)
    seen = {}
    for block in meta["block_output_stats_shape_mean_std_absmax"]:
        unet.get_submodule(block).register_forward_hook(lambda m, i, o, block=block: seen.__setitem__(block, o))
    x, kwargs = arguments(tensors)
    with torch.no_grad():
        unet(x, **kwargs)
    for block, (shape, mean, std, absmax) in meta["block_output_stats_shape_mean_std_absmax"].items():
        out = seen[block]
        assert list(out.shape) == shape
        for value, reference in ((out.mean(), mean), (out.std(), std), (out.abs().max(), absmax)):
            assert abs(value.item() - reference) <= 2e-5 * max(1, absmax), block


@pytest.mark.parametrize("use_checkpoint", (True, False))
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, use_checkpoint):
    meta, tensors = load(name)
    unet = build(meta, tensors, use_checkpoint=use_checkpoint)
    x, kwargs = arguments(tensors)
    x.requires_grad_()
    if "context" in kwargs:
        kwargs["context"].requires_grad_()
    (unet(x, **kwargs) * tensors["cotangent"]).sum().backward()
    parameters = dict(unet.named_parameters())
    inputs = {"x": x, **kwargs}
    for key, reference in tensors.items():
        if key.startswith("grad_w."):
            assert_gradient(parameters[key.removeprefix("grad_w.")].grad, reference, key)
        elif key.startswith("grad_in."):
            assert_gradient(inputs[key.removeprefix("grad_in.")].grad, reference, key)
    largest = max(meta["grad_l2_norm_per_param"].values())
    for key, reference in meta["grad_l2_norm_per_param"].items():
        assert abs(parameters[key].grad.norm().item() - reference) <= 1e-4 * reference + 1e-6 * largest, key


def test_frozen_parameters_with_checkpointing():
    """The published checkpoint Function could not freeze anything; selective training depends on it."""
    meta, tensors = load("ldm/unet_xattn")
    unet = build(meta, tensors, use_checkpoint=True)
    for key, parameter in unet.named_parameters():
        parameter.requires_grad_("attn2" in key)
    x, kwargs = arguments(tensors)
    (unet(x, **kwargs) * tensors["cotangent"]).sum().backward()
    for key, parameter in unet.named_parameters():
        assert (parameter.grad is not None) == ("attn2" in key), key
        if f"grad_w.{key}" in tensors and "attn2" in key:
            assert_gradient(parameter.grad, tensors[f"grad_w.{key}"], key)
