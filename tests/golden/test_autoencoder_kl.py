"""The KL autoencoder against the original: both directions, gradients, checkpointing, scaling of the latents."""

import pytest
import torch

from ldm.util import get_obj_from_str
from tests.golden.diffusion_model import build as latent_diffusion
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_gradient, weights_from_formula


@pytest.fixture
def golden():
    meta, tensors = load("ldm/autoencoder_kl")
    return meta, tensors, build(meta, tensors)


def build(meta, tensors):
    vae = get_obj_from_str(meta["class"])(**meta["kwargs"])
    if "weights_formula" in meta:
        assert [name for name, _ in vae.named_parameters()] == meta["named_parameters_order"]
        weights_from_formula(vae)
    else:
        vae.load_state_dict({key[2:]: value.float() for key, value in tensors.items() if key.startswith("w.")})
    return vae.eval()


def test_names(golden):
    meta, _, vae = golden
    if "state_dict_keys_in_order" in meta:
        assert list(vae.state_dict()) == meta["state_dict_keys_in_order"]
    assert sum(p.numel() for p in vae.parameters()) == meta["n_params"]


@torch.no_grad()
def test_encoding_and_decoding(golden):
    _, tensors, vae = golden
    assert_close(vae.encoder(tensors["in.x"]), tensors["encoder_out"], what="encoder")
    posterior = vae.encode(tensors["in.x"])
    assert_close(posterior.parameters, tensors["moments"], what="moments")
    for name in ("mean", "logvar", "std"):
        assert_close(getattr(posterior, name), tensors[name], what=name)
    sample = posterior.mean + posterior.std * tensors["sample_noise"]
    assert_close(sample, tensors["sample"], what="sample")
    assert_close(vae.decode(tensors["sample"]), tensors["decode_of_sample"], what="decoded sample")
    assert_close(vae.decode(tensors["mean"]), tensors["decode_of_mean"], what="decoded mean")
    assert_close(vae(tensors["in.x"], sample_posterior=False)[0], tensors["decode_of_mean"], what="forward")


def test_gradients(golden):
    _, tensors, vae = golden
    x, z = tensors["in.x"].requires_grad_(), tensors["sample"].requires_grad_()
    (vae.encode(x).mean * tensors["cotangent_mean"]).sum().backward()
    (vae.decode(z) * tensors["cotangent_decode"]).sum().backward()
    assert_gradient(x.grad, tensors["grad_in.x_from_mean"], "images")
    assert_gradient(z.grad, tensors["grad_in.z_from_decode"], "latents")
    for key, expected in tensors.items():
        if key.startswith("grad_w."):
            assert_gradient(vae.get_parameter(key.removeprefix("grad_w.")).grad, expected, key)


def test_scaling_in_a_latent_diffusion_model(golden):
    meta, tensors, vae = golden
    first_stage = {"target": meta["class"], "params": meta["kwargs"]}
    model = latent_diffusion(first_stage=first_stage, shared=True, scale_factor=meta["scale_factor"])
    model.first_stage_model.load_state_dict(vae.state_dict())
    scaled = model.get_first_stage_encoding(tensors["sample"])
    assert_close(scaled, tensors["scaled_latent"], what="scaled latent")
    assert_close(model.decode_first_stage(scaled), tensors["decode_of_sample"], what="decoded")
