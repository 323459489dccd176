"""The vector quantiser's promises, remapped codebooks, and the VQ autoencoders around it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ldm.models.autoencoder import VQModel, VQModelInterface
from ldm.modules.quantize import VectorQuantizer2

DDCONFIG = dict(
    double_z=False,
    z_channels=3,
    resolution=8,
    in_channels=3,
    out_ch=3,
    ch=32,
    ch_mult=[1, 1],
    num_res_blocks=1,
    attn_resolutions=[],
    dropout=0.0,
)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 20), st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.booleans(), st.integers(0, 99))
def test_every_vector_becomes_its_nearest_code(codes, width, batch, size, sane, seed):
    torch.manual_seed(seed)
    quantiser = VectorQuantizer2(codes, width, 0.25, sane_index_shape=sane)
    z = torch.randn(batch, width, size, size + 1) / codes
    out, loss, (_, _, indices) = quantiser(z)
    assert indices.shape == ((batch, size, size + 1) if sane else (batch * size * (size + 1),))
    entry = quantiser.get_codebook_entry(indices, (batch, size, size + 1, width))
    torch.testing.assert_close(out, entry, atol=1e-6, rtol=0)
    distances = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, width), quantiser.embedding.weight)
    chosen = distances.gather(1, indices.reshape(-1, 1))[:, 0]
    assert (chosen <= distances.amin(1) + 1e-4).all() and loss >= 0


def test_gradients_pass_straight_through():
    quantiser = VectorQuantizer2(8, 3, 0.25)
    z = torch.randn(2, 3, 4, 4, requires_grad=True)
    cotangent = torch.randn(2, 3, 4, 4)
    (quantiser(z)[0] * cotangent).sum().backward()
    assert torch.equal(z.grad, cotangent) and quantiser.embedding.weight.grad is None


def test_beta_weighs_the_codebook_in_the_legacy_loss_and_the_commitment_otherwise():
    gradients = {}
    for legacy in (True, False):
        torch.manual_seed(0)
        quantiser = VectorQuantizer2(4, 2, 0.25, legacy=legacy)
        z = torch.randn(1, 2, 3, 3, requires_grad=True)
        quantiser(z)[1].backward()
        gradients[legacy] = z.grad
    torch.testing.assert_close(gradients[False], 0.25 * gradients[True])


@pytest.mark.parametrize("unknown", ("extra", "random", 1))
def test_remapped_indices(tmp_path, unknown):
    used = np.array([5, 2, 7])
    np.save(tmp_path / "used.npy", used)
    quantiser = VectorQuantizer2(8, 2, 0.25, remap=tmp_path / "used.npy", unknown_index=unknown)
    positions = quantiser.remap_to_used(torch.tensor([[5, 7, 3]]))
    assert positions[0, :2].tolist() == [0, 2]
    assert 0 <= positions[0, 2] < quantiser.re_embed == (4 if unknown == "extra" else 3)
    if unknown != "random":
        assert positions[0, 2] == (3 if unknown == "extra" else unknown)
    assert quantiser.unmap_to_all(torch.tensor([0, 1, 2])).tolist() == used.tolist()
    out, _, (_, _, indices) = quantiser(torch.randn(2, 2, 3, 3))
    assert out.shape == (2, 2, 3, 3) and indices.shape == (18,) and indices.max() < quantiser.re_embed


def test_logits_are_refused():
    with pytest.raises(ValueError, match="no temperature"):
        VectorQuantizer2(4, 2, 0.25)(torch.zeros(1, 2, 1, 1), return_logits=True)


@torch.no_grad()
def test_autoencoder_and_first_stage_agree():
    torch.manual_seed(0)
    model = VQModel(DDCONFIG, n_embed=16, embed_dim=3, sane_index_shape=True).eval()
    stage = VQModelInterface(embed_dim=3, ddconfig=DDCONFIG, n_embed=16).eval()
    stage.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 8, 8)
    out, loss, indices = model(x, return_pred_indices=True)
    assert out.shape == x.shape and indices.shape == (2, 4, 4)
    quantised, loss_again, _ = model.encode(x)
    torch.testing.assert_close(loss, loss_again)
    for found in (model.decode(quantised), model.decode_code(indices), stage.decode(stage.encode(x))):
        torch.testing.assert_close(found, out, atol=1e-5, rtol=0)
    torch.testing.assert_close(stage(x)[0], out, atol=1e-5, rtol=0)
    torch.testing.assert_close(stage.decode_code(indices), out, atol=1e-5, rtol=0)


def test_averaged_weights():
    model = VQModel(DDCONFIG, n_embed=4, embed_dim=3, use_ema=True)
    code = model.quantize.embedding.weight
    before = code.detach().clone()
    torch.nn.init.zeros_(code)
    with model.ema_scope():
        assert torch.equal(code, before)
    assert not code.any()


def test_weights_from_a_file(tmp_path):
    from safetensors.torch import save_file

    from ldm.loading import CheckpointError

    torch.manual_seed(0)
    model = VQModel(DDCONFIG, n_embed=4, embed_dim=3)
    save_file(model.state_dict(), tmp_path / "vq.safetensors")
    again = VQModel(DDCONFIG, n_embed=4, embed_dim=3, ckpt_path=tmp_path / "vq.safetensors")
    assert torch.equal(again.quant_conv.weight, model.quant_conv.weight)
    save_file({"other.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="changes nothing"):
        VQModel(DDCONFIG, n_embed=4, embed_dim=3, ckpt_path=tmp_path / "other.safetensors")
