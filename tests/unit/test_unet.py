"""The UNet beside its peers: diffusers' UNet, the three attention back ends, half precision."""

import pytest
import torch

from ldm.modules import attention_backend
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from ldm.modules.diffusionmodules.util import normalization
from tests.golden.golden_data import load_json


def toy_unet(**overrides):
    torch.manual_seed(0)
    settings = {
        "image_size": 16,
        "in_channels": 4,
        "model_channels": 64,
        "out_channels": 4,
        "num_res_blocks": 1,
        "attention_resolutions": [2, 1],
        "channel_mult": [1, 2],
        "num_heads": 4,
        "use_spatial_transformer": True,
        "context_dim": 32,
        "legacy": False,
    }
    unet = UNetModel(**{**settings, **overrides})
    for parameter in unet.parameters():  # the zero-initialised layers would hide what comes before them
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return unet.eval()


def inputs(batch=2, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(batch, 4, 16, 16, generator=generator).to(dtype)
    context = torch.randn(batch, 7, 32, generator=generator).to(dtype)
    return x, torch.tensor([17, 801][:batch]), context


@torch.no_grad()
def test_equals_diffusers_unet_in_the_layout_of_sd_v1():
    from diffusers import UNet2DConditionModel

    unet = toy_unet(attention_resolutions=[4, 2, 1], channel_mult=[1, 2, 4, 4], num_res_blocks=2, num_heads=8)
    peer = UNet2DConditionModel(
        block_out_channels=(64, 128, 256, 256), cross_attention_dim=32, attention_head_dim=8, norm_eps=1e-5
    ).eval()
    names = load_json("ldm/sd_v1_diffusers_map")["map"]
    prefix = "model.diffusion_model."
    peer.load_state_dict({names[prefix + key][1]: value for key, value in unet.state_dict().items()})
    x, t, context = inputs()
    ours, theirs = unet(x, t, context=context), peer(x, t, encoder_hidden_states=context).sample
    assert (ours - theirs).abs().max() <= 1e-5 * max(1, theirs.abs().max())


@torch.no_grad()
def test_attention_back_ends_agree():
    unet = toy_unet()
    x, t, context = inputs()
    reference = unet(x, t, context=context)
    with attention_backend.backend("einsum"):
        assert (unet(x, t, context=context) - reference).abs().max() < 1e-5
    assert attention_backend.get_backend() == "sdpa"


def test_unknown_back_end_is_refused():
    with pytest.raises(ValueError, match="unknown attention back end"):
        attention_backend.set_backend("flash")


def test_xformers_is_refused_where_it_cannot_run():
    if attention_backend.xformers_available():
        pytest.skip("xformers runs here")
    with pytest.raises(ValueError, match="xformers"):
        attention_backend.set_backend("xformers")


@pytest.mark.parametrize("is_causal", (False, True))
def test_causal_and_masked_attention_agree(is_causal):
    q, k, v = torch.randn(3, 2, 4, 9, 8).unbind(0)
    mask = None if is_causal else torch.rand(2, 1, 1, 9) > 0.3
    fused = attention_backend.attention(q, k, v, mask=mask, is_causal=is_causal)
    with attention_backend.backend("einsum"):
        plain = attention_backend.attention(q, k, v, mask=mask, is_causal=is_causal)
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@torch.no_grad()
def test_half_precision_runs_close_to_float32(dtype):
    unet = toy_unet()
    x, t, context = inputs()
    reference = unet(x, t, context=context)
    out = unet.to(dtype)(x.to(dtype), t, context=context.to(dtype))
    assert out.dtype == dtype
    assert (out.float() - reference).norm() < 0.05 * reference.norm()


@torch.no_grad()
def test_use_fp16_builds_a_half_model_that_takes_float32_inputs():
    unet = toy_unet(use_fp16=True)
    x, t, context = inputs()
    out = unet(x, t, context=context)
    assert unet.dtype == torch.float16 and out.dtype == torch.float32 and torch.isfinite(out).all()


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
@pytest.mark.parametrize("memory_format", (torch.contiguous_format, torch.channels_last))
@torch.no_grad()
def test_normalisation_of_half_precision_is_computed_in_float32(dtype, memory_format):
    """A mean far above the deviation: sums in half precision would lose everything."""
    norm = normalization(64)
    x = (100 + torch.randn(2, 64, 24, 24)).to(dtype).contiguous(memory_format=memory_format)
    expected = norm(x.float())
    for weights in (dtype, torch.float32):  # float32 weights: as under autocast
        out = norm.to(weights)(x)
        assert out.dtype == dtype
        assert (out.float() - expected).abs().max() <= 2 * torch.finfo(dtype).eps * expected.abs().max()


def test_half_precision_trains():
    unet = toy_unet(use_checkpoint=True).to(torch.bfloat16)
    x, t, context = inputs(dtype=torch.bfloat16)
    unet(x, t, context=context).float().square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in unet.parameters())


@pytest.mark.parametrize(
    "bad, message",
    [
        ({"context_dim": None}, "go together"),
        ({"num_heads": -1}, "has to be set"),
        ({"num_res_blocks": [1]}, "one per level"),
    ],
)
def test_contradictory_settings_are_refused(bad, message):
    with pytest.raises(ValueError, match=message):
        toy_unet(**bad)


def test_unknown_forward_arguments_are_errors():
    x, t, context = inputs()
    with pytest.raises(TypeError):
        toy_unet()(x, t, context=context, contxt=context)
