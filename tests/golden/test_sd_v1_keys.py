"""Every tensor of the published Stable Diffusion v1 checkpoints is loaded, by name and shape, into the full-size model.

On the meta device, where weights have names, shapes and types but take no memory.
"""

import copy

import pytest
import torch

from erasure.base_models import choose_weights
from erasure.runs import ROOT
from ldm.loading import CheckpointError, load_model_from_config
from tests.golden.golden_data import load_json

EMA, UNET, TEXT = "model_ema.", "model.diffusion_model.", "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def catalogue():
    return load_json("ldm/sd_v1_keys")


@pytest.fixture(scope="module")
def config():
    from omegaconf import OmegaConf

    return OmegaConf.load(ROOT / "configs/stable-diffusion/v1-inference.yaml").model


def _files():
    try:
        return [name for name, file in load_json("ldm/sd_v1_keys")["files"].items() if "n_keys" in file]
    except BaseException:  # a missing file is reported by the test itself
        return ["missing"]


def checkpoint(catalogue, file):
    """State dict of one published file."""
    wanted, extra = file["groups"], file.get("extra", [])
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype, group) in catalogue["keys"].items()
        if group in wanted or key in extra
    }


def load(config, stored, **options):
    return load_model_from_config(config, stored, device="meta", **options)


def expected_keys(catalogue, groups=("schedule", "unet", "vae", "text_encoder")):
    """What the model has: all but position_ids, which transformers once stored."""
    keys = {key: shape for key, (shape, _, group) in catalogue["keys"].items() if group in groups}
    return {key: tuple(shape) for key, shape in keys.items() if not key.endswith("position_ids")}


def average(key):
    return EMA + key.removeprefix("model.").replace(".", "")


@pytest.mark.parametrize("name", _files())
def test_published_file(catalogue, config, name):
    file = catalogue["files"][name]
    stored = checkpoint(catalogue, file)
    assert len(stored) == file["n_keys"]
    has_averages = "ema" in file["groups"]
    for weights, which in (("auto", "raw" if has_averages else "only"), ("ema", "ema")):
        if weights == "ema" and not has_averages:
            continue
        chosen, found = choose_weights(stored, weights)
        assert found == which
        for key, (_, _, group) in catalogue["keys"].items():
            if group in ("unet", "vae") and key in chosen:
                assert chosen[key] is stored[average(key) if weights == "ema" and group == "unet" else key]
        state = load(config, chosen).state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == expected_keys(catalogue)
        assert all(value.dtype == torch.float32 for value in state.values())


def test_order_and_size_of_the_parts(catalogue, config):
    stored = checkpoint(catalogue, {"groups": ["unet", "vae", "text_encoder"]})
    model = load(config, choose_weights(stored)[0])
    order = [key for key in catalogue["keys"] if not key.endswith("position_ids") and not key.startswith(EMA)]
    assert list(model.state_dict()) == order
    sizes = {group: 0 for group in catalogue["numel"]}
    for key, value in model.state_dict().items():
        sizes[catalogue["keys"][key][2]] += value.numel()
    for group in ("schedule", "unet", "vae"):
        assert sizes[group] == catalogue["numel"][group]
    position_ids = sum(torch.Size(s).numel() for k, (s, *_) in catalogue["keys"].items() if k.endswith("position_ids"))
    assert sizes["text_encoder"] == catalogue["numel"]["text_encoder"] - position_ids


def test_averages_in_a_model_that_keeps_them(catalogue, config):
    config = copy.deepcopy(config)
    config.params.use_ema = True
    groups = ["schedule", "unet", "ema", "vae", "text_encoder"]
    stored = checkpoint(catalogue, {"groups": groups})
    state = load(config, stored).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected_keys(catalogue, groups)
    for key, value in state.items():
        assert str(value.dtype) == f"torch.{catalogue['keys'][key][1]}", key


@pytest.mark.parametrize("form", ("half precision", "no text_model level"))
def test_pruned_files(catalogue, config, form):
    stored = checkpoint(catalogue, {"groups": ["unet", "vae", "text_encoder"]})
    if form == "half precision":  # position_ids included
        stored = {key: value.half() for key, value in stored.items()}
    else:
        stored = {key.replace(f"{TEXT}text_model.", TEXT): value for key, value in stored.items()}
    state = load(config, stored).state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected_keys(catalogue)
    assert all(value.dtype == torch.float32 for value in state.values())


@pytest.mark.parametrize("prefix", (UNET, "first_stage_model.", TEXT))
def test_any_missing_renamed_or_misshapen_tensor_is_refused(catalogue, config, prefix):
    stored = checkpoint(catalogue, {"groups": ["unet", "vae", "text_encoder"]})
    key = [key for key in stored if key.startswith(prefix)][-1]
    without = {name: value for name, value in stored.items() if name != key}
    with pytest.raises(CheckpointError, match=f"missing keys: {key}"):
        load(config, without)
    with pytest.raises(CheckpointError, match=f"unexpected keys: {key}x"):
        load(config, without | {key + "x": stored[key]})
    with pytest.raises(CheckpointError, match=f"size mismatch for {key}"):
        load(config, without | {key: stored[key][..., None]})
