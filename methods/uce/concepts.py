"""The texts behind UCE's commands: lists of concepts, what they are steered to, what is preserved, and published names.

Everything here is plain text, so that a command's mistakes show before anything heavy is imported.
"""

import csv
import functools
import hashlib
import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from erasure.errors import UserError
from erasure.runs import find

ARTISTS = "data/names/artists1734_seeds.csv"

_I2P = "hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, bodily fluids, blood"
_PRESETS = {
    "allartist": "Kelly Mckernan, Thomas Kinkade, Pablo Picasso, Tyler Edlin, Kilian Eng",
    "i2g": _I2P,  # sic, in UCE
    "i2p": _I2P,  # in RECE
    "10artists": "Asger Jorn, Eric Fischl, Johannes Vermeer, Apollinary Vasnetsov, Naoki Urasawa, Nicolas Mignard, "
    "John Whitcomb, John Constable, Warwick Globe, Albert Marquet",
    "imagenette": "Cassette Player, Chain Saw, Church, Gas Pump, Tench, Garbage Truck, English Springer, Golf Ball, "
    "Parachute, French Horn",
}
PRESETS = {name: tuple(text.split(", ")) for name, text in _PRESETS.items()}
"""A concept of this name stands for these."""

_ART = ("painting by", "art by", "artwork by", "picture by", "style of")
_OBJECT = ("image of", "photo of", "portrait of", "picture of", "painting of")

_LONGEST = 200  # bytes of a name: file systems allow 255, of which suffixes and temporary names take some


# ---- lists ---------------------------------------------------------------------------------------------------------


@functools.cache
def read_artists() -> tuple[str, ...]:
    """The 1,734 artists that UCE preserves, in the order of its file."""
    with open(find(ARTISTS), newline="", encoding="utf-8") as file:
        return tuple(dict.fromkeys(row["artist"] for row in csv.DictReader(file)))


class World(NamedTuple):
    """The names that a base model is asked about where a command gives none."""

    artists: tuple[str, ...]  # of which ``<N>artists`` draws
    kept: tuple[str, ...]  # what an erased artist leaves as it is


def world(family: str) -> World:
    """The 1,734 artists, for both. The embedded model has its own: 96 dimensions do not hold 1,734 texts."""
    if family != "toy":
        return World(read_artists(), read_artists())
    from toyworld.concepts import OBJECTS, PEOPLE, STYLES

    return World(STYLES, (*STYLES, *OBJECTS, *PEOPLE, "a clothed person"))


def separator(*lists: str | None) -> str:
    """What divides the lists of one command: ``;`` where any of them has one (as in 2025), else ``,`` (as in 2023)."""
    return ";" if any(";" in text for text in lists if text) else ","


def split_list(text: str, separator: str = ",") -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(separator))


def expand(concepts: Sequence[str], artists: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    """Concepts with presets replaced by what they stand for; ``<N>artists`` draws N of `artists`.

    The published code looks at the first concept only, and drops the others after a preset.
    """
    found: list[str] = []
    for concept in concepts:
        if concept in PRESETS:
            found += PRESETS[concept]
        elif match := re.fullmatch(r"(\d+)artists", concept):
            found += _drawn(artists, int(match[1]), rng, concept)
        else:
            found.append(concept)
    return tuple(found)


def _drawn(artists: Sequence[str], count: int, rng: random.Random, flag: str) -> list[str]:
    if not 1 <= count <= len(artists):
        raise UserError(f"{flag}: {count} cannot be drawn of {len(artists)} artists")
    return rng.sample(list(artists), count)


# ---- what is erased towards what -----------------------------------------------------------------------------------


class Pair(NamedTuple):
    text: str
    guide: str  # what it is to be answered like
    concept: int  # which concept it belongs to, by position


def broadcast(guides: Sequence[str], count: int) -> tuple[str, ...]:
    """One guide for each of `count` concepts. UserError if there is neither one nor one for each."""
    if len(guides) not in (1, count):
        raise UserError(f"{len(guides)} guides for {count} concepts: give one, or one for each")
    return tuple(guides) * count if len(guides) == 1 else tuple(guides)


def prefixes(concept_type: str, variant: str = "2023") -> tuple[str, ...]:
    """What is put before a concept to make more prompts of it. In 2023 only art and objects had such prompts."""
    if concept_type == "art":
        return _ART
    return _OBJECT if concept_type == "object" or variant == "2025" else ()


def pairs(
    concepts: Sequence[str], guides: Sequence[str], prefixes: Sequence[str] = (), variant: str = "2023"
) -> tuple[Pair, ...]:
    """Every text to erase with its guide, in the published order.

    2023: concept by concept with its prompts, whose guide is the bare one. 2025: all concepts, then the prompts of
    each, whose guide is made into the same prompt.
    """
    both = list(enumerate(zip(concepts, guides, strict=True)))
    if variant == "2023":
        prompts = {i: [concept, *(f"{prefix} {concept}" for prefix in prefixes)] for i, (concept, _) in both}
        return tuple(Pair(text, guide, i) for i, (_, guide) in both for text in prompts[i])
    plain = [Pair(concept, guide, i) for i, (concept, guide) in both]
    more = [Pair(f"{p} {concept}", f"{p} {guide}", i) for i, (concept, guide) in both for p in prefixes]
    return tuple(plain + more)


# ---- what is preserved ---------------------------------------------------------------------------------------------


def other_artists(
    artists: Sequence[str], texts: Sequence[str], number: int | None = None, rng: random.Random | None = None
) -> tuple[str, ...]:
    """Those of `artists` that are not among the erased `texts`, whatever the case; or `number` drawn of them."""
    erased = {text.lower() for text in texts}
    others = tuple(artist for artist in artists if artist.lower() not in erased)
    return others if number is None else tuple(_drawn(others, number, rng or random.Random(0), "--preserve_number"))


def preserve_scale(count: int) -> float:
    """The published default for `count` preserved texts, the empty one included."""
    return max(0.1, 1 / count)


# ---- names ---------------------------------------------------------------------------------------------------------


def run_name(
    concepts: Sequence[str],
    guides: Sequence[str] | None,
    preserves: bool,
    preserve_number: int | None = None,
    base: str = "1.4",
    technique: str = "replace",
) -> str:
    """The published name of a run, e.g. ``erased-nudity-towards_uncond-preserve_false-sd_1_4-method_replace``.

    concepts, guides: as typed, presets not replaced; guides of None are none. A guide is left out, as published, where
    the name contains it already.
    """
    head = "_".join(concepts)
    if guides is None:
        head += "-towards_uncond"
    elif len(guides) == 1:
        head += f"-towards_{guides[0]}"
    else:
        head += "-towards"
        for guide in guides:
            head += "" if guide in head else f"-{guide}"
    tail = "" if preserve_number is None else f"-preserving_{preserve_number}artists"
    tail += f"-preserve_{str(preserves).lower()}-sd_{base.replace('.', '_')}-method_{technique}"
    return file_name(f"erased-{head}".lower(), tail.lower())


def file_name(head: str, tail: str = "") -> str:
    """`head` and `tail` as one name. What no file name can hold becomes ``_``; a very long head is cut and gets a hash."""
    head, tail = (re.sub(r"[/\x00-\x1f]", "_", text) for text in (head, tail))
    head = head if (head + tail).strip(". ") else "_"
    if len((head + tail).encode()) > _LONGEST:
        digest = hashlib.sha256(head.encode()).hexdigest()[:8]
        head = head.encode()[: _LONGEST - len(tail.encode()) - 9].decode(errors="ignore") + "~" + digest
    return head + tail
