"""SepCE's lists, presets, names of runs, and what a run may be told."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from erasure.training.naming import name_part
from methods import sepce
from methods.sepce.settings import SepceSettings


def settings_of(method="CiE", family="toy", concepts=("Van Gogh",), **chosen):
    return SepceSettings.for_family(method, family, concepts, **chosen)


# ---- lists and names -----------------------------------------------------------------------------------------------


def test_indexes_count_through_the_published_lists():
    for category, concepts in sepce.CATEGORIES.items():
        assert [sepce.concept_of(category, i) for i in range(len(concepts))] == list(concepts)
        for index in (-1, len(concepts)):
            with pytest.raises(UserError, match=f"--erased_index {index}: {category} has 0 {concepts[0]}"):
                sepce.concept_of(category, index)
    assert sepce.concept_list("style", watermarks=True)[9:] == sepce.WATERMARKS
    assert sepce.concept_list("nudity", watermarks=True) == ("nudity",)


@pytest.mark.parametrize(
    ("method", "chosen", "name"),
    [
        ("FMN", dict(iter_break=10), "FMN-Van Gogh-iter_10"),
        ("FMN", dict(iter_break=30, erase_cat="style", erased_index=1), "FMN-style-erased_index_1-iter_30"),
        ("Abconcept", dict(iter_break=50), "abconcept-Van Gogh-iter_50"),
        (
            "Abconcept",
            dict(iter_break=75, erase_cat="object", erased_index=0),
            "abconcept-object-erased_index_0-iter_75",
        ),
        (
            "CiE",
            dict(threshold=0.0, reg_beta=3e-5, iter_break=1000),
            "CiE-Van Gogh-threshold_0.0-iter_1000_beta-3e-05",
        ),
        (
            "SepCE",
            dict(thresholds=(0.0, 0.00015, 0.0), reg_beta=3e-5, iter_break=1000, mode="joint"),
            "train-joint-SepCE-threshold0_0-threshold1_0.00015-threshold1_0-iter_1000_beta-3e-05-onlykv1",
        ),
        (
            "SRS_ME",
            dict(
                erase_cat="style", erased_index=0, scenei=1, timei=0, lr=0.1, threshold=1e-4, reg_beta=1e-6,
                iter_break=1000,
            ),
            "train-sepme-style-scene_1-time_0-lr_0.1-threshold_0.0001-iter_1000-beta_1e-06-0",
        ),
    ],
)  # fmt: skip
def test_names_of_runs_are_the_published_ones(method, chosen, name):
    assert settings_of(method, "sd-v1", **chosen).run_name == name


@given(st.text(max_size=300).filter(str.strip), st.sampled_from(["FMN", "Abconcept", "CiE"]))
def test_any_prompt_makes_a_file_name(prompt, method):
    name = settings_of(method, concepts=(prompt,)).run_name
    assert not set(name) & set('/\\\0:*?"<>|')
    assert len(f"compvis-{name}.safetensors".encode()) < 255


@given(st.text("abc de'-", max_size=60))
def test_ordinary_prompts_stay_as_typed(prompt):
    assert name_part(prompt) == prompt
    assert name_part(prompt, blanks=False) == prompt.replace(" ", "")


# ---- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["sd-v1", "toy"])
@pytest.mark.parametrize("method", sepce.METHODS)
def test_preset_holds_and_choices_win(method, family):
    settings = settings_of(method, family, lr=None, seed=3)
    defaults = sepce.preset(method, family)
    assert {name: settings.to_dict()[name] for name in defaults} == defaults
    chosen = settings_of(method, family, lr=0.5, cycle_images=not defaults["cycle_images"])
    assert (chosen.lr, chosen.cycle_images) == (0.5, not defaults["cycle_images"])


def test_own_settings_stand_beside_the_common_ones():
    settings = settings_of(threshold=0.25, erase_cat=None)
    assert settings["threshold"] == 0.25 and settings["erase_cat"] is None
    assert settings["reg_beta"] == sepce.preset("CiE", "toy")["reg_beta"]
    assert "own" not in settings.to_dict() and settings.to_dict()["concepts"] == ["Van Gogh"]


def test_steps_and_images_that_a_run_can_need():
    assert settings_of("FMN", "sd-v1", iter_break=10).steps == 11
    assert settings_of("FMN", "sd-v1", iter_break=10).images_wanted == 11
    assert settings_of("CiE", "sd-v1", iter_break=5, min_iter=11).steps == 12
    assert settings_of("CiE", "sd-v1").images_wanted == 1000  # not the 1001 that the limit allows
    assert settings_of("FMN", "toy", iter_break=500, num_images=7).images_wanted == 7


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lr": 0.0}, "lr must be greater than 0"),
        ({"lr": float("nan")}, "lr must be a number"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"reg_beta": float("inf")}, "reg_beta must be a number"),
        ({"iter_break": -1}, "iter_break must be at least 0"),
        ({"ddim_steps": 0}, "ddim_steps must be at least 1"),
        ({"ddim_steps": 1001}, "more than the 1000"),
        ({"image_size": 100}, "multiple of 8"),
        ({"num_images": 0}, "num_images"),
        ({"checkpoint_every": -1}, "checkpoint_every"),
        ({"seed": -1}, "seed"),
        ({"save_format": "ckpt"}, "save_format"),
        ({"concepts": ("",)}, "concept to erase must not be empty"),
        ({"concepts": ()}, "concept to erase must not be empty"),
    ],
)
def test_mistakes_are_named(wrong, message):
    with pytest.raises(UserError, match=message):
        settings_of(**wrong)


def test_differences_are_those_of_the_weights():
    settings = settings_of(seed=3, thresholds=(0.0, 1.0))
    there = json.loads(json.dumps(settings.to_dict()))
    assert settings.differences(there) == []
    about_files = dataclasses.replace(settings, seed=None, save_format="pt", checkpoint_every=1, num_images=9)
    assert about_files.differences(there) == []
    other = dataclasses.replace(settings, seed=4, zero_grad=True, own=settings.own | {"threshold": 0.5})
    assert [words.split()[0] for words in other.differences(there)] == ["zero_grad", "seed", "threshold"]


@pytest.mark.parametrize(
    ("chosen", "least"),
    [({}, 40), ({"iter_break": 20}, 20), ({"iter_break": 5}, 11), ({"iter_break": 5, "min_iter": 30}, 30)],
)
def test_a_presets_min_iter_does_not_outlast_the_limit_by_much(chosen, least):
    """Published: 12 steps at least, whatever the limit."""
    assert SepceSettings.for_family("SepCE", "toy", ("a",), **chosen)["min_iter"] == least
