"""The KL autoencoder beside diffusers', in half precision, and in training."""

import pytest
import torch

from erasure import key_maps
from ldm.models.autoencoder import AutoencoderKL
from ldm.modules import attention_backend

SMALL = dict(ch_mult=[1, 2], num_res_blocks=1)


def vae(**overrides):
    """Four levels of two blocks, like Stable Diffusion v1's, with random weights and 32 channels."""
    torch.manual_seed(0)
    config = dict(
        double_z=True,
        z_channels=4,
        resolution=64,
        in_channels=3,
        out_ch=3,
        ch=32,
        ch_mult=[1, 2, 4, 4],
        num_res_blocks=2,
        attn_resolutions=[],
        dropout=0.0,
    )
    return AutoencoderKL({**config, **overrides}, {"target": "torch.nn.Identity"}, embed_dim=4).eval()


def image(size=32):
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1)).clamp(-1, 1)


@torch.no_grad()
def test_equals_diffusers_in_the_layout_of_sd_v1():
    diffusers = pytest.importorskip("diffusers")
    ours = vae()
    peer = diffusers.AutoencoderKL(
        block_out_channels=(32, 64, 128, 128),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=2,
        latent_channels=4,
    ).eval()
    peer.load_state_dict(key_maps.vae_to_diffusers(ours.state_dict()))
    x = image()
    moments, theirs = ours.encode(x).parameters, peer.encode(x).latent_dist.parameters
    assert (moments - theirs).abs().max() <= 1e-5 * max(1, theirs.abs().max())
    z = ours.encode(x).mode()
    found, expected = ours.decode(z), peer.decode(z).sample
    assert (found - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@torch.no_grad()
def test_attention_back_ends_agree():
    model, x = vae(**SMALL), image(16)
    expected = model(x, sample_posterior=False)[0]
    with attention_backend.backend("einsum"):
        assert (model(x, sample_posterior=False)[0] - expected).abs().max() < 2e-5


@pytest.mark.parametrize("dtype, rtol", ((torch.bfloat16, 0.08), (torch.float16, 0.01)))
@torch.no_grad()
def test_half_precision_runs_close_to_float32(dtype, rtol):
    model, x = vae(**SMALL), image(16)
    expected, posterior = model(x, sample_posterior=False)
    out, half = model.to(dtype)(x.to(dtype), sample_posterior=False)
    assert out.dtype == half.sample().dtype == dtype
    assert (out.float() - expected).norm() < rtol * expected.norm()
    assert (half.mean.float() - posterior.mean).norm() < rtol * posterior.mean.norm()


def test_frozen_decoder_passes_gradients_to_the_latent():
    model = vae(**SMALL).requires_grad_(False)
    z = torch.randn(1, 4, 8, 8, requires_grad=True)
    model.decode(z).square().sum().backward()
    assert z.grad.abs().sum() > 0 and all(p.grad is None for p in model.parameters())


def test_moments_are_required():
    with pytest.raises(ValueError, match="double_z"):
        vae(double_z=False)


def test_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="attn_type"):
        vae(attn_type="fancy")


def test_weights_from_a_file(tmp_path):
    from safetensors.torch import save_file

    small = dict(ch_mult=[1], num_res_blocks=1)
    model = vae(**small)
    save_file(model.state_dict(), tmp_path / "vae.safetensors")
    torch.manual_seed(5)
    again = AutoencoderKL(
        {
            **small,
            **dict(double_z=True, z_channels=4, resolution=8, in_channels=3, out_ch=3, ch=32, attn_resolutions=[]),
        },
        embed_dim=4,
        ckpt_path=tmp_path / "vae.safetensors",
    )
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True))
