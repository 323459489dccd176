"""Converted weights against the original converter's, and the converted networks in diffusers against ours."""

import pytest
import torch

from erasure import diffusers_folders, key_maps
from ldm.models.autoencoder import AutoencoderKL
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from tests.golden.golden_data import load_json, load_tensors
from tests.golden.numeric import assert_close

UNETS = ("convert_tiny_unet", "convert_train_unet")


def unet_weights(name):
    """(CompVis weights, what the original converter made of them)."""
    if name == "convert_train_unet":
        weights = {key: t.float() for key, t in load_tensors("esd/unet_init").items()}
        mapping = load_json(f"esd/{name}")["mapping"]
        return weights, {new: weights[old.removeprefix(key_maps.PREFIXES["unet"])] for old, new in mapping.items()}
    stored = load_tensors(f"esd/{name}_weights")
    parts = {
        side: {k[len(side) + 1 :]: t.float() for k, t in stored.items() if k.startswith(side + ".")}
        for side in ("compvis", "diffusers")
    }
    parts["compvis"] = {k.removeprefix(key_maps.PREFIXES["unet"]): t for k, t in parts["compvis"].items()}
    return parts["compvis"], parts["diffusers"]


def same(found, expected):
    assert found.keys() == expected.keys()
    for key, tensor in found.items():
        assert torch.equal(tensor, expected[key]), key


@pytest.mark.parametrize("name", UNETS)
def test_unet_weights_both_ways(name):
    compvis, diffusers = unet_weights(name)
    same(key_maps.unet_to_diffusers(compvis), diffusers)
    same(key_maps.unet_to_compvis(diffusers), compvis)


@pytest.mark.parametrize("name", UNETS)
def test_unet_outputs(name):
    diffusers = pytest.importorskip("diffusers")
    meta, io = load_json(f"esd/{name}"), load_tensors(f"esd/{name}_io")
    compvis, _ = unet_weights(name)
    ours = UNetModel(**meta["unet_config"])
    ours.load_state_dict(compvis)
    theirs = diffusers.UNet2DConditionModel(**meta["diffusers_config"])
    theirs.load_state_dict(key_maps.unet_to_diffusers(compvis))
    with torch.no_grad():
        assert_close(ours.eval()(io["x"], io["t"], context=io["context"]), io["out_compvis"])
        assert_close(theirs.eval()(io["x"], io["t"], io["context"]).sample, io["out_diffusers"])


@pytest.mark.parametrize("name", UNETS)
def test_unet_config(name):
    meta = load_json(f"esd/{name}")
    found = diffusers_folders.unet_config(meta["unet_config"])
    assert {key: found[key] for key in meta["diffusers_config"]} == meta["diffusers_config"]


def test_vae_config():
    meta = load_json("esd/vae_key_map")["tiny"]
    found = diffusers_folders.vae_config({"ddconfig": meta["ddconfig"]}, 1.0)
    assert {key: found[key] for key in meta["diffusers_config"]} == meta["diffusers_config"]


def test_vae_weights_and_outputs():
    diffusers = pytest.importorskip("diffusers")
    meta, io = load_json("esd/vae_key_map")["tiny"], load_tensors("esd/vae_tiny_io")
    weights = {
        k.removeprefix(key_maps.PREFIXES["vae"]): t.float() for k, t in load_tensors("esd/vae_tiny_weights").items()
    }
    converted = key_maps.vae_to_diffusers(weights)
    same(key_maps.vae_to_compvis(converted), weights)
    same(key_maps.vae_to_compvis(key_maps.vae_to_diffusers(weights, "original")), weights)
    ours = AutoencoderKL(meta["ddconfig"], {"target": "torch.nn.Identity"}, weights["post_quant_conv.weight"].shape[1])
    ours.load_state_dict(weights)
    theirs = diffusers.AutoencoderKL(**meta["diffusers_config"])
    theirs.load_state_dict(converted)
    with torch.no_grad():
        moments = ours.quant_conv(ours.encoder(io["image"]))
        assert_close(moments, io["moments"])
        assert_close(theirs.quant_conv(theirs.encoder(io["image"])), io["moments_diffusers"])
        assert_close(ours.decode(io["latent"]), io["decoded"])
        assert_close(theirs.decode(io["latent"]).sample, io["decoded_diffusers"])
