"""Which parameters each training method selects, against both published generations, on the full-size network."""

import pytest
import torch

from erasure.key_maps import unet_keys_map
from ldm.modules.diffusionmodules.openaimodel import UNetModel
from methods.esd import COMPVIS_METHODS, DIFFUSERS_METHODS
from methods.esd.esd import select_parameters
from tests.golden.golden_data import load_json

# what the other diffusers trainer calls the same sets; its "xattn-strict" selects nothing, by mistake
ALTERNATIVE_NAMES = {"xattn": "esd-x", "noxattn": "esd-u", "selfattn": "selfattn", "full": "esd-all"}


@pytest.fixture(scope="module")
def unet():
    with torch.device("meta"):
        return UNetModel(**load_json("esd/train_method_names_sd_v1")["unet_config"])


def scalars(parameters):
    return sum(p.numel() for p in parameters)


def test_parameters(unet):
    golden = load_json("esd/train_method_names_sd_v1")
    assert [(n, list(p.shape)) for n, p in unet.named_parameters()] == list(golden["parameters"].items())
    assert scalars(unet.parameters()) == golden["n_scalars"]


def test_compvis_methods(unet):
    golden = load_json("esd/train_method_names_sd_v1")["methods"]
    assert set(golden) <= set(COMPVIS_METHODS)
    for method, expected in golden.items():
        selected = select_parameters(unet, method)
        assert list(selected) == expected["names"], method  # the optimizer's order, too
        assert len(selected) == expected["n_tensors"]
        assert scalars(selected.values()) == expected["n_scalars"]


def test_diffusers_methods(unet):
    golden = load_json("esd/train_method_names_diffusers")
    names = unet_keys_map(name for name, _ in unet.named_parameters())
    cases = {method: (method, case) for method, case in golden["sd"]["methods"].items()}
    for method, case in golden["alt_esd_diffusers"]["methods"].items():
        if method in ALTERNATIVE_NAMES:
            cases[f"alt {method}"] = (ALTERNATIVE_NAMES[method], case)
        else:
            assert case["n_tensors"] == 0, method
    assert set(golden["sd"]["methods"]) <= set(DIFFUSERS_METHODS)
    for label, (method, expected) in cases.items():
        selected = select_parameters(unet, method)
        assert {names[name] for name in selected} == set(expected["names"]), label
        assert len(selected) == expected["n_tensors"], label
        assert scalars(selected.values()) == expected["n_scalars"], label
