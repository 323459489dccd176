"""Lists, guides, preserved artists and names of UCE's commands."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.uce import concepts
from methods.uce.concepts import PRESETS

words = st.text(st.characters(blacklist_characters=",;", blacklist_categories=("Cs",)), min_size=1, max_size=20)
lists = st.lists(words.map(str.strip).filter(bool), min_size=1, max_size=6)
ARTISTS = ("Banksy", "Claude Monet", "Picasso", "Kelly McKernan")


@given(lists, st.sampled_from((",", ", ", ";", " ; ")))
def test_lists_come_back(items, joint):
    text = joint.join(items)
    found = concepts.split_list(text, concepts.separator(text, None, "no list"))
    assert list(found) == items


def test_one_semicolon_makes_it_the_separator_of_every_list():
    assert concepts.separator("a, b", "c;d") == ";"
    assert concepts.separator("a, b", None) == ","
    assert concepts.split_list("lion;horse;", ";") == ("lion", "horse", "")


def test_presets_stand_for_lists():
    rng = random.Random(0)
    for name, wanted in PRESETS.items():
        assert concepts.expand([name], ARTISTS, rng) == wanted
    assert concepts.expand(["allartist", "Banksy"], ARTISTS, rng) == (*PRESETS["allartist"], "Banksy")
    assert concepts.expand(["artists", "the 3artists"], ARTISTS, rng) == ("artists", "the 3artists")


@given(st.integers(1, len(ARTISTS)), st.integers())
def test_artists_are_drawn_by_the_seed(count, seed):
    drawn = [concepts.expand([f"{count}artists"], ARTISTS, random.Random(seed)) for _ in range(2)]
    assert drawn[0] == drawn[1] and len(set(drawn[0])) == count and set(drawn[0]) <= set(ARTISTS)


@pytest.mark.parametrize("count", [0, 5])
def test_as_many_artists_as_there_are(count):
    with pytest.raises(UserError, match=f"{count}artists: {count} cannot be drawn of 4 artists"):
        concepts.expand([f"{count}artists"], ARTISTS, random.Random(0))
    with pytest.raises(UserError, match=f"--preserve_number: {count} cannot be drawn of 3"):
        concepts.other_artists(ARTISTS, ["banksy", "x"], count) if count == 0 else concepts.other_artists(
            ARTISTS[:4], ["BANKSY"], count
        )


@given(lists, lists, st.sampled_from(("art", "object", "unsafe", "celebrity")), st.booleans())
def test_every_text_has_its_concepts_guide(names, guides, kind, more):
    if len(guides) not in (1, len(names)):
        with pytest.raises(UserError, match="guides for"):
            concepts.broadcast(guides, len(names))
        return
    each = concepts.broadcast(guides, len(names))
    for variant in ("2023", "2025"):
        prefixes = concepts.prefixes(kind, variant) if more else ()
        pairs = concepts.pairs(names, each, prefixes, variant)
        assert len(pairs) == len(names) * (1 + len(prefixes))
        for text, guide, i in pairs:
            assert text.endswith(names[i]) and guide.endswith(each[i])
            before = text.removesuffix(names[i])
            assert before in ("", *(f"{prefix} " for prefix in prefixes))
            # of 2023 only the texts become prompts, of 2025 their guides, too
            assert guide == (each[i] if variant == "2023" else before + each[i])


def test_the_artists_that_are_preserved():
    artists = concepts.read_artists()
    assert len(artists) == len(set(artists)) == 1734
    others = concepts.other_artists(artists, ["claude MONET", "art by Picasso"])
    assert len(others) == 1733 and "Claude Monet" not in others
    drawn = concepts.other_artists(artists, [], 7, random.Random(3))
    assert drawn == concepts.other_artists(artists, [], 7, random.Random(3)) and len(set(drawn)) == 7


@given(st.integers(1, 3000))
def test_the_published_scale(count):
    assert concepts.preserve_scale(count) == (1 / count if count < 10 else 0.1)


@given(st.text(max_size=400), st.sampled_from(("", "-preserve_true-sd_1_4-method_replace")))
def test_any_text_makes_a_file_name(text, tail):
    name = concepts.file_name(text, tail)
    assert name.strip(". ") and "/" not in name and "\0" not in name and "\n" not in name
    assert name.endswith(tail) and len(name.encode(errors="replace")) <= 200


def test_long_lists_are_told_apart():
    names = [concepts.run_name([f"artist {i}" for i in range(n)], ["art"], True) for n in (100, 101)]
    assert names[0] != names[1] and names[0][:100] == names[1][:100]
    assert all(len(name) <= 200 and name.endswith("-preserve_true-sd_1_4-method_replace") for name in names)


def test_a_guide_that_the_name_has_already_is_left_out():
    name = concepts.run_name(["Tiger cub", "dog"], ["wolf", "dog", "lion"], False)
    assert name == "erased-tiger cub_dog-towards-wolf-lion-preserve_false-sd_1_4-method_replace"
