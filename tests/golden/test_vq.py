"""The vector quantiser and the VQ autoencoder against taming-transformers' and the original's."""

import pytest
import torch

from ldm.modules.quantize import VectorQuantizer2
from ldm.util import get_obj_from_str
from tests.golden.golden_data import load
from tests.golden.numeric import assert_close, assert_gradient, weights_from_formula


def _cases():
    try:
        return list(load("ldm/vq")[0]["cases"])
    except BaseException:  # a missing file is reported by the test itself
        return ["missing"]


@pytest.mark.parametrize("name", _cases())
def test_quantiser(name):
    meta, tensors = load("ldm/vq")
    own = {key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.startswith(f"{name}/")}
    quantiser = VectorQuantizer2(**meta["cases"][name])
    quantiser.load_state_dict({"embedding.weight": own["embedding.weight"]})
    z = own["z"].requires_grad_()
    z_q, loss, (_, _, indices) = quantiser(z)
    assert torch.equal(indices, own["indices"])
    assert_close(z_q, own["z_q"], what="quantised")
    assert loss.item() == pytest.approx(own["loss"].item(), rel=1e-5)
    ((z_q * own["cotangent"]).sum() + loss).backward()
    assert_gradient(z.grad, own["grad_z"], "latents")
    assert_gradient(quantiser.embedding.weight.grad, own["grad_embedding"], "codes")
    batch, channels, height, width = z.shape
    entry = quantiser.get_codebook_entry(indices, (batch, height, width, channels))
    assert_close(entry, own["codebook_entry"], what="codebook entry")


@torch.no_grad()
def test_autoencoder():
    meta, tensors = load("ldm/vq")
    if "vqmodel" not in meta:
        pytest.skip("this set has no VQ autoencoder")
    case = meta["vqmodel"]
    model = get_obj_from_str(f"ldm.models.autoencoder.{case['class']}")(**case["kwargs"]).eval()
    assert [name for name, _ in model.named_parameters()] == case["named_parameters_order"]
    weights_from_formula(model)
    latents = model.encode(tensors["vqmodel/x"])
    assert_close(latents, tensors["vqmodel/encode"])
    assert_close(model.decode(tensors["vqmodel/encode"]), tensors["vqmodel/decode"])
    unquantised = model.decode(tensors["vqmodel/encode"], force_not_quantize=True)
    assert_close(unquantised, tensors["vqmodel/decode_force_not_quantize"])
