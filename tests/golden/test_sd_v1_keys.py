"""Every tensor of the published Stable Diffusion v1 checkpoints is loaded, by name and shape, into the full-size model.

The weights take no memory: each is one number, seen through the shape of the real tensor.
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
    """State dict of one published file; every tensor is filled with the number of its key."""
    groups, extra = file["groups"], file.get("extra", [])
    state_dict = {}
    for number, (key, (shape, dtype, group)) in enumerate(catalogue["keys"].items()):
        if group in groups or key in extra:
            state_dict[key] = torch.tensor(number).to(getattr(torch, dtype)).expand(shape)
    return state_dict


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
        model = load_model_from_config(config, chosen)
        state = model.state_dict()
        assert {key: tuple(value.shape) for key, value in state.items()} == expected_keys(catalogue)
        for key, (_, _, group) in catalogue["keys"].items():
            if group in ("unet", "vae", "text_encoder") and key in state:
                source = average(key) if weights == "ema" and group == "unet" else key
                assert state[key].flatten()[0] == stored[source].flatten()[0], key
        assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))


def test_order_and_size_of_the_parts(catalogue, config):
    model = load_model_from_config(
        config, choose_weights(checkpoint(catalogue, {"groups": ["unet", "vae", "text_encoder"]}))[0]
    )
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
    model = load_model_from_config(config, stored)
    state = model.state_dict()
    assert {key: tuple(value.shape) for key, value in state.items()} == expected_keys(catalogue, groups)
    for key in state:
        if key.startswith(EMA):
            assert state[key].flatten()[0] == stored[key].flatten()[0], key


@pytest.mark.parametrize("form", ("half precision", "no text_model level"))
def test_pruned_files(catalogue, config, form):
    stored = checkpoint(catalogue, {"groups": ["unet", "vae", "text_encoder"]})
    if form == "half precision":  # position_ids included
        stored = {key: torch.ones((), dtype=torch.float16).expand(value.shape) for key, value in stored.items()}
    else:
        stored = {key.replace(f"{TEXT}text_model.", TEXT): value for key, value in stored.items()}
    if form == "half precision":  # a conversion would need memory: the model is loaded as it is stored
        model = load_model_from_config(config, stored, dtype=torch.float16)
    else:
        model = load_model_from_config(config, stored)
    assert {key: tuple(value.shape) for key, value in model.state_dict().items()} == expected_keys(catalogue)


@pytest.mark.parametrize("prefix", (UNET, "first_stage_model.", TEXT))
def test_any_missing_renamed_or_misshapen_tensor_is_refused(catalogue, config, prefix):
    stored = checkpoint(catalogue, {"groups": ["unet", "vae", "text_encoder"]})
    key = [key for key in stored if key.startswith(prefix)][-1]
    without = {name: value for name, value in stored.items() if name != key}
    with pytest.raises(CheckpointError, match=f"missing keys: {key}"):
        load_model_from_config(config, without)
    with pytest.raises(CheckpointError, match=f"unexpected keys: {key}x"):
        load_model_from_config(config, without | {key + "x": stored[key]})
    with pytest.raises(CheckpointError, match=f"size mismatch for {key}"):
        load_model_from_config(config, without | {key: stored[key][..., None]})
