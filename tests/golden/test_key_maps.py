"""Names in CompVis checkpoints and in diffusers folders against the original converter's."""

import pytest

from erasure import key_maps
from ldm.util import get_obj_from_str
from tests.golden.golden_data import load_json


def prefixed(mapping, prefix):
    return {prefix + old: new for old, new in mapping.items()}


def model_config(part):
    """The parameters of one part of the published configuration, as the golden files' full maps were made for it."""
    from omegaconf import OmegaConf

    from erasure.runs import ROOT

    config = OmegaConf.load(ROOT / "configs/stable-diffusion/v1-inference.yaml")
    return OmegaConf.to_container(config.model.params[part])


def test_sd_v1():
    expected = load_json("ldm/sd_v1_diffusers_map")["map"]
    for part, config in (("unet", "unet_config"), ("vae", "first_stage_config"), ("text_encoder", "cond_stage_config")):
        mapping = {"unet": key_maps.unet_map, "vae": key_maps.vae_map, "text_encoder": key_maps.text_map}[part]
        found = prefixed(mapping(model_config(config)), key_maps.PREFIXES[part])
        assert found == {old: new for old, (component, new, _) in expected.items() if component == part}


@pytest.mark.parametrize("name", ("unet_key_map_sd_v1", "convert_tiny_unet", "convert_train_unet"))
def test_unet(name):
    meta = load_json(f"esd/{name}")
    found = key_maps.unet_map(meta["unet_config"])
    expected = {old.removeprefix(key_maps.PREFIXES["unet"]): new for old, new in meta["mapping"].items()}
    assert found == expected
    assert len(set(found.values())) == len(found)


@pytest.mark.parametrize("names", ("original", "current"))
def test_vae(names):
    meta = load_json("esd/vae_key_map")["sd_v1"]
    expected = meta["mapping_original_converter" if names == "original" else "mapping_current_diffusers"]
    keys = [key.removeprefix(key_maps.PREFIXES["vae"]) for key in expected]
    assert prefixed(key_maps.vae_keys_map(keys, names), key_maps.PREFIXES["vae"]) == expected


def test_every_unet_of_the_golden_files_that_attends_to_text():
    """Whatever structure they have, the way back leads to the same names."""
    for name in ("ldm/unet_xattn",):
        meta = load_json(name)
        assert get_obj_from_str(meta["class"]).__name__ == "UNetModel"
        mapping = key_maps.unet_map(meta["kwargs"])
        assert list(mapping) == meta["state_dict_keys_in_order"]
        places = key_maps._diffusers_places(mapping.values())
        assert {new: key_maps._compvis_unet_key(new, places) for new in mapping.values()} == {
            new: old for old, new in mapping.items()
        }
