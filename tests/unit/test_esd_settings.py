"""Settings of a run: presets, what is refused, what makes two runs different; and the devices."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.devices import choose_device, parse_devices
from erasure.errors import UserError
from methods.esd import BROAD_METHODS, BROAD_PRESETS, PRESETS, TRAIN_METHODS
from methods.esd.settings import EsdSettings, differences


@pytest.mark.parametrize("family", PRESETS)
def test_preset_holds_and_choices_win(family):
    settings = EsdSettings.for_family(family, prompt="x", lr=None)
    assert {name: getattr(settings, name) for name in PRESETS[family]} == PRESETS[family]
    chosen = EsdSettings.for_family(family, iterations=7, lr=0.5)
    assert (chosen.iterations, chosen.lr) == (7, 0.5)
    assert chosen.ddim_steps == PRESETS[family]["ddim_steps"]


@pytest.mark.parametrize("method", TRAIN_METHODS)
def test_broad_methods_have_their_own_preset_on_the_embedded_model_only(method):
    toy = EsdSettings.for_family("toy", train_method=method)
    expected = PRESETS["toy"] | (BROAD_PRESETS["toy"] if method in BROAD_METHODS else {})
    assert {name: getattr(toy, name) for name in expected} == expected
    published = EsdSettings.for_family("sd-v1", train_method=method)
    assert {name: getattr(published, name) for name in PRESETS["sd-v1"]} == PRESETS["sd-v1"]


def test_published_defaults():
    settings = EsdSettings()
    assert settings == EsdSettings.for_family("sd-v1")
    assert settings.run_name == "compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1000-lr_1e-05"
    assert (settings.ddim_steps, settings.image_size, settings.save_every) == (50, 512, 500)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"train_method": "x-attn"}, "train_method 'x-attn' is not one of noxattn"),
        ({"sampler_model": "both"}, "sampler_model"),
        ({"save_format": "ckpt"}, "save_format"),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"ddim_steps": 1}, "ddim_steps must be at least 2"),
        ({"ddim_steps": 36}, "36 DDIM steps do not fit"),
        ({"ddim_steps": 1001}, "more than the 1000"),
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"negative_guidance": float("inf")}, "negative_guidance must be a number"),
        ({"image_size": 100}, "multiple of 8"),
        ({"seed": -1}, "seed"),
        ({"save_every": -1}, "save_every"),
        ({"prompt": " "}, "empty concept"),
        ({"prompt": "a,,b", "seperator": ","}, "empty concept"),
        ({"prompt": "a,b", "seperator": ",", "erase_from": "c,d,e"}, "3 texts for 2 concepts"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        EsdSettings(**wrong)


def test_concepts():
    assert EsdSettings(prompt="a, b", seperator=",").concepts == ["a", "b"]
    assert EsdSettings(prompt="a, b").concepts == ["a, b"]
    assert len(EsdSettings(prompt="allartist", seperator=",").concepts) == 6


def test_differences_are_those_of_the_weights():
    settings = EsdSettings(seed=3)
    there = json.loads(json.dumps(settings.to_dict()))
    assert differences(settings, "hash", there, "hash") == []
    about_files = dataclasses.replace(settings, seed=None, save_format="pt", save_every=1, checkpoint_every=1)
    assert differences(about_files, "hash", there, "hash") == []
    other = dataclasses.replace(settings, seed=4, lr=2e-5)
    assert differences(other, "new", there, "old") == [
        "lr 1e-05 there, 2e-05 here",
        "seed 3 there, 4 here",
        "base model old there, new here",
    ]


# ---- devices -------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.booleans())
def test_devices_by_number_or_name(numbers, named):
    text = ",".join(f"cuda:{n}" if named else f" {n}" for n in numbers)
    assert parse_devices(text) == [f"cuda:{n}" for n in numbers]


@pytest.mark.parametrize("text", ["", ",", "0,", "gpu", "0;1", "cuda:x", "-1", "1.5"])
def test_wrong_devices(text):
    with pytest.raises(UserError, match="--devices"):
        parse_devices(text)


def test_device_where_there_is_a_gpu():
    assert choose_device(None, 2) == ("cuda:0", [])
    assert choose_device("0", 1) == ("cuda:0", [])
    assert choose_device("cpu", 2) == ("cpu", [])
    assert choose_device("cuda", 1) == ("cuda:0", [])
    device, (remark,) = choose_device("1,0", 2)
    assert device == "cuda:1" and "cuda:0 stays free" in remark
    assert choose_device("0,1", 1)[0] == "cuda:0"  # the second device is not needed


def test_device_where_there_is_none():
    device, (remark,) = choose_device(None, 0)
    assert device == "cpu" and "becomes cpu" in remark
    assert choose_device("cpu,cpu", 0) == ("cpu", [])
    assert choose_device("0,1", 0) == ("cpu", ["devices: no GPU here, so the published 0,1 becomes cpu"])
    with pytest.raises(UserError, match="no cuda:0; this machine has no GPU"):
        choose_device("0", 0)
    with pytest.raises(UserError, match="no cuda:3; this machine has 2"):
        choose_device("cuda:3", 2)
