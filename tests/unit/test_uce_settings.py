"""Settings of UCE's erasure: what is refused, and what they come to."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.uce.run import chosen_layers, erasures
from methods.uce.settings import UceSettings

ARTISTS = ("Banksy", "Claude Monet", "Picasso")


def plan(concepts="nudity", concept_type="unsafe", **more):
    return UceSettings(concepts=concepts, concept_type=concept_type, **more).plan(ARTISTS)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"variant": "2024"}, "variant '2024' is not one of 2023, 2025"),
        ({"technique": "swap"}, "technique 'swap' is not one of replace, tensor"),
        ({"lamb": -1.0}, "lamb must be a number that is not negative"),
        ({"lamb": float("nan")}, "lamb must be a number"),
        ({"erase_scale": 0.0}, "erase_scale 0 erases nothing"),
        ({"erase_scale": float("inf")}, "erase_scale must be a number"),
        ({"preserve_scale": -0.1}, "preserve_scale must be"),
        ({"layers": ()}, "layers are positions"),
        ({"layers": (0, -1)}, "layers are positions"),
        ({"variant": "2025", "preserve_number": 3}, "--preserve_number is of variant 2023"),
        ({"concepts": "a,,b"}, "a concept is empty"),
        ({"concepts": " "}, "a concept is empty"),
        ({"guided_concepts": "a, b"}, "2 guides for 1 concepts"),
        ({"concept_type": "art", "preserve_number": 4}, "4 cannot be drawn of 3 artists"),
        ({"concepts": "9artists"}, "9 cannot be drawn of 3 artists"),
    ],
)
def test_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        plan(**wrong)


def test_what_each_generation_does_unasked():
    old, new = plan(), plan(variant="2025")
    assert (old.pairs[0].guide, old.preserved, old.preserve_scale) == (" ", ("",), 1.0)
    assert (new.pairs[0].guide, new.preserved, new.preserve_scale, new.name) == ("", (), 1.0, "uce_test")
    art, new_art = plan("banksy", "art"), plan("banksy", "art", variant="2025")
    assert (art.pairs[0].guide, art.preserved) == (" ", ("", "Claude Monet", "Picasso"))
    assert (new_art.pairs[0].guide, new_art.preserved) == ("art", ())


def test_an_empty_list_preserves_no_artists():
    found = plan("banksy", "art", preserve_concepts="")
    assert found.preserved == ("",) and "-preserve_false-" in found.name
    assert plan("banksy", "art", preserve_concepts=" Monet,, Dali").preserved == ("", "Monet", "Dali")


@pytest.mark.parametrize(
    ("base", "end"), [(None, "sd_1_4"), ("1_4", "sd_1_4"), ("toy", "sd_toy"), ("my/own.safetensors", "sd_own")]
)
def test_the_base_in_the_name(base, end):
    assert plan(base=base).name == f"erased-nudity-towards_uncond-preserve_false-{end}-method_replace"


def test_flags_that_do_nothing_are_named():
    assert plan().notes == ()
    assert ["--add_prompts" in note for note in plan(add_prompts=True).notes] == [True]
    assert ["--preserve_number" in note for note in plan(preserve_number=2).notes] == [True]
    assert "preserving" not in plan(preserve_number=2).name


@given(st.lists(st.sampled_from(("cat", "dog", "golf ball")), min_size=1, max_size=4, unique=True), st.booleans())
def test_in_turn_or_at_once_every_text_is_erased(names, more):
    for variant in ("2023", "2025"):
        settings = UceSettings(", ".join(names), "object", add_prompts=more, variant=variant, sequential=True)
        found = settings.plan(ARTISTS)
        parts = erasures(settings, found)
        assert len(parts) == len(names)
        for name, part in zip(names, parts, strict=True):
            assert all(name in text for text, _ in part.pairs) and len(part.pairs) == (6 if more else 1)
        (whole,) = erasures(dataclasses.replace(settings, sequential=False), found)
        assert sorted(whole.pairs) == sorted(pair for part in parts for pair in part.pairs)
    assert settings.plan(ARTISTS).name == "uce_test"


def test_settings_are_saved_with_the_scale_they_came_to():
    settings = UceSettings("banksy", "art", layers=(0, 3))
    saved = json.loads(json.dumps(settings.resolved(settings.plan(ARTISTS)).to_dict()))
    assert saved["preserve_scale"] == 1 / 3 and saved["layers"] == [0, 3] and saved["base"] is None


def test_layers_by_position():
    names = [f"input_blocks.{i}.1.attn2.to_{x}.weight" for i in (10, 2) for x in "kv"]
    names += [f"middle_block.1.attn2.to_{x}.weight" for x in "kv"] + ["output_blocks.3.1.attn2.to_v.weight"]
    values = ["input_blocks.2", "input_blocks.10", "output_blocks.3", "middle_block"]
    assert [n.split(".1.")[0] for n in chosen_layers(names, with_to_k=False)] == values
    keys = chosen_layers(names)[len(values) :]
    assert [n.split(".1.")[0] for n in keys] == ["input_blocks.2", "input_blocks.10", "middle_block"]
    assert chosen_layers(names, layers=(6, 0, 0)) == [chosen_layers(names)[0], chosen_layers(names)[6]]
    with pytest.raises(UserError, match="--layers 7: the positions here are 0 to 6"):
        chosen_layers(names, layers=(0, 7))
