"""Configuration and small helpers of ldm.util."""

from functools import partial
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from ldm import util

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "stable-diffusion" / "v1-inference.yaml"


def test_instantiate_from_dict_and_omegaconf():
    config = {"target": "torch.nn.Linear", "params": {"in_features": 3, "out_features": 2}}
    for node in (config, OmegaConf.create(config)):
        assert util.instantiate_from_config(node).weight.shape == (2, 3)
    assert isinstance(util.instantiate_from_config({"target": "torch.nn.Identity"}), torch.nn.Identity)
    assert isinstance(util.instantiate_from_config({"target": "torch.nn.Identity", "params": None}), torch.nn.Identity)


@pytest.mark.parametrize("marker", ["__is_first_stage__", "__is_unconditional__"])
def test_markers_give_none(marker):
    assert util.instantiate_from_config(marker) is None


@pytest.mark.parametrize("config", [{}, {"params": {}}, "a string with target in it", OmegaConf.create({})])
def test_no_target_is_an_error(config):
    with pytest.raises(KeyError, match="Expected key `target` to instantiate."):
        util.instantiate_from_config(config)


def test_get_obj_from_str(tmp_path, monkeypatch):
    assert util.get_obj_from_str("torch.nn.Identity") is torch.nn.Identity
    with pytest.raises(ImportError):
        util.get_obj_from_str("Identity")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reloaded_sample.py").write_text("value = object()")
    first = util.get_obj_from_str("reloaded_sample.value")
    assert util.get_obj_from_str("reloaded_sample.value") is first
    assert util.get_obj_from_str("reloaded_sample.value", reload=True) is not first


def test_default_and_exists():
    assert util.exists(0) and not util.exists(None)
    assert util.default(0, 5) == 0 and util.default(None, 5) == 5 and util.default(None, lambda: 6) == 6
    not_a_plain_function = partial(int, 7)
    assert util.default(None, not_a_plain_function) is not_a_plain_function


def test_ismap_and_isimage():
    cases = {(1, 4, 2, 2): (True, False), (1, 3, 2, 2): (False, True), (1, 1, 2, 2): (False, True)}
    cases |= {(1, 2, 2, 2): (False, False), (4, 2, 2): (False, False)}
    for shape, expected in cases.items():
        x = torch.zeros(shape)
        assert (util.ismap(x), util.isimage(x)) == expected, shape
    assert not util.ismap([1]) and not util.isimage(None)


def test_mean_flat_and_count_params(capsys):
    x = torch.arange(24.0).reshape(2, 3, 4)
    assert util.mean_flat(x).tolist() == [5.5, 17.5]
    assert util.count_params(torch.nn.Linear(3, 2), verbose=True) == 8
    assert "Linear" in capsys.readouterr().out


def test_captions_as_images():
    images = util.log_txt_as_img((64, 32), ["", "a painting of a very long prompt"])
    assert images.shape == (2, 3, 32, 64) and images.dtype == torch.float32
    assert images.min() >= -1 and images.max() <= 1
    assert (images[0] == 1).all() and (images[1] < 0).any()


def test_stable_diffusion_config_reads():
    params = OmegaConf.load(CONFIG).model.params
    assert params.unet_config.params.context_dim == 768 and params.scale_factor == 0.18215
    scheduler = params.scheduler_config.params
    assert scheduler.f_start == [1e-6] and scheduler.cycle_lengths == [10**13]
    with torch.device("meta"):
        encoder = util.instantiate_from_config(params.cond_stage_config)
    assert encoder.transformer.config.hidden_size == params.unet_config.params.context_dim
