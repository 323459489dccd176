"""From token ids to an image: text tower, guided sampling, decoding, conversion to bytes."""

import re

import pytest
import torch

from ldm.models.diffusion.ddim import DDIMSampler
from ldm.models.diffusion.plms import PLMSSampler
from tests.golden import test_autoencoder_kl, test_clip_text
from tests.golden.diffusion_model import build
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_relative_to_max

SAMPLERS = {sampler.__name__: sampler for sampler in (DDIMSampler, PLMSSampler)}


@pytest.fixture(scope="module")
def golden():
    """(meta, tensors, the model of the shared set's weights: the case is recorded on them whatever its shapes)."""
    meta, tensors = load("ldm/e2e")
    vae_meta, vae_tensors = load("ldm/autoencoder_kl", shared=True)
    text_meta, text_tensors = load("ldm/clip_text", shared=True)
    sizes = {name: text_meta["config"][name] for name in test_clip_text.SIZES}
    model = build(
        meta["latent_diffusion_params"],
        first_stage={"target": vae_meta["class"], "params": vae_meta["kwargs"]},
        cond_stage={"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder", "params": sizes},
        shared=True,
    )
    model.first_stage_model = test_autoencoder_kl.build(vae_meta, vae_tensors)
    prefix = test_clip_text.PREFIX
    text = {k.removeprefix(prefix): v.float() for k, v in text_tensors.items() if k.startswith(prefix)}
    model.cond_stage_model.load_state_dict(text)
    return meta, tensors, model


class Tokens:
    """Stands in for the tokenizer: hands out stored ids (a vocabulary of a few dozen has no words)."""

    def __init__(self, ids):
        self.ids = ids

    def __call__(self, text, **kwargs):
        assert len(text) == len(self.ids)
        return type("Encoding", (), {"input_ids": self.ids})


@torch.no_grad()
def encode(model, ids):
    model.cond_stage_model.tokenizer = Tokens(ids)
    return model.get_learned_conditioning([""] * len(ids))


def test_text(golden):
    _, tensors, model = golden
    assert_close(encode(model, tensors["input_ids"]), tensors["cond"])
    assert_close(encode(model, tensors["uncond_input_ids"]), tensors["uncond"])


def test_images(golden):
    meta, tensors, model = golden
    cond, uncond = (encode(model, tensors[name]) for name in ("input_ids", "uncond_input_ids"))
    for name, run in meta["runs"].items():
        x_T = tensors[f"{name}/x_T"]
        with torch.no_grad():
            latent, _ = SAMPLERS[run["sampler"]](model).sample(
                run["S"],
                len(x_T),
                x_T.shape[1:],
                conditioning=cond,
                unconditional_conditioning=uncond,
                unconditional_guidance_scale=run["scale"],
                eta=run["eta"],
                x_T=x_T,
            )
        assert_relative_to_max(latent, tensors[f"{name}/latent"], what=f"{name} latent")
        decoded = model.decode_first_stage(latent)
        assert_relative_to_max(decoded, tensors[f"{name}/decoded"], what=f"{name} image")
        pixels = (255 * ((decoded + 1) / 2).clamp(0, 1)).to(torch.uint8).permute(0, 2, 3, 1)
        difference = (pixels.int() - tensors[f"{name}/uint8_hwc"].int()).abs()
        assert difference.max() <= 1 and (difference > 0).float().mean() <= 0.01, name


def test_seeded_encoding(golden):
    meta, tensors, model = golden
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(re.search(r"manual_seed\((\d+)\)", meta["encode"])[1]))
        z = model.get_first_stage_encoding(model.encode_first_stage(tensors["encode/x"]))
    assert_close(z, tensors["encode/z_scaled_seeded"])
