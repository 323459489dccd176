"""The texts that a published command means, and the folder that it writes to."""

import hashlib
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from erasure.errors import UserError

SEED = 123  # to which the published scripts set every generator, whatever their --seed says
_LONGEST = 200  # bytes of a folder's name


@dataclass(frozen=True)
class Texts:
    """What a command's text flags come to."""

    typed: tuple[str, ...]  # the concepts as they were typed, for names
    concepts: tuple[str, ...]  # presets replaced by what they stand for
    guides: tuple[str, ...]
    targets: tuple[str | None, ...]
    preserved: tuple[str, ...]  # what was asked to stay, without the empty text that always does
    towards: str  # of the tag
    preserving: str


def resolve_texts(
    concepts: str,
    concept_type: str,
    guided_concepts: str | None = None,
    old_target_concept: str | None = None,
    preserve_concepts: str | None = None,
    preserve_number: int | None = None,
    artists: Sequence[str] = (),
    keep_artists: bool = False,
) -> Texts:
    """Split the comma lists and replace presets. keep_artists: preserve all `artists` but the erased ones by default.

    UserError for an empty concept, and for lists whose lengths do not go together.
    """
    typed = split_list(concepts)
    if not all(typed):
        raise UserError(f"--concepts {concepts!r}: a concept is empty")
    found = expand(typed, artists, SEED)
    guides, towards = _guides(guided_concepts, len(found))
    preserved = split_list(preserve_concepts) if preserve_concepts is not None else ()
    if preserve_concepts is None and keep_artists and concept_type == "art":
        erased = {text.lower() for text in found}
        preserved = tuple(artist for artist in dict.fromkeys(artists) if artist.lower() not in erased)
    preserving = "true" if preserved else "false"
    towards_and = ""
    if preserve_number is not None:
        if not 1 <= preserve_number <= len(preserved):
            raise UserError(f"--preserve_number {preserve_number}: there are {len(preserved)} texts to choose from")
        preserved = tuple(random.Random(SEED).sample(preserved, preserve_number))
        towards_and = f"-preserving_{preserve_number}artists"
    targets = _targets(old_target_concept, len(found))
    return Texts(typed, found, guides, targets, preserved, towards + towards_and, f"-preserve_{preserving}")


def _guides(given: str | None, count: int) -> tuple[tuple[str, ...], str]:
    """(a guide for every concept, what the tag says of them)."""
    if given is None:
        return (" ",) * count, "-towards_uncond"
    guides = split_list(given)
    if len(guides) == 1:
        return (guides[0] or " ",) * count, f"-towards_{guides[0]}"
    if len(guides) != count:
        raise UserError(f"--guided_concepts has {len(guides)} texts for {count} concepts: give one, or one for each")
    towards = "-towards"
    for guide in guides:
        towards += "" if guide in towards else f"-{guide}"  # as published: not what the name holds already
    return tuple(guide or " " for guide in guides), towards


def _targets(given: str | None, count: int) -> tuple[str | None, ...]:
    if given is None:
        return (None,) * count
    targets = split_list(given)
    if len(targets) != count:
        raise UserError(f"--old_target_concept has {len(targets)} texts for {count} concepts: give one for each")
    return tuple(None if target == "none" else target or " " for target in targets)


# ---- lists and presets: until methods/uce/concepts.py is there -----------------------------------------------------

_PRESETS = {
    "allartist": "Kelly Mckernan, Thomas Kinkade, Pablo Picasso, Tyler Edlin, Kilian Eng",
    "i2p": "hate, harassment, violence, suffering, humiliation, harm, suicide, sexual, nudity, bodily fluids, blood",
    "10artists": "Asger Jorn, Eric Fischl, Johannes Vermeer, Apollinary Vasnetsov, Naoki Urasawa, Nicolas Mignard, "
    "John Whitcomb, John Constable, Warwick Globe, Albert Marquet",
    "imagenette": "Cassette Player, Chain Saw, Church, Gas Pump, Tench, Garbage Truck, English Springer, Golf Ball, "
    "Parachute, French Horn",
}


def split_list(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(","))


def expand(concepts: Sequence[str], artists: Sequence[str], seed: int) -> tuple[str, ...]:
    """The concepts themselves, or those that a preset as the first of them stands for."""
    if concepts[0] in _PRESETS:
        return split_list(_PRESETS[concepts[0]])
    if match := re.fullmatch(r"(\d+)artists", concepts[0]):
        return tuple(random.Random(seed).sample(artists, int(match[1])))
    return tuple(concepts)


# ---- names ---------------------------------------------------------------------------------------------------------


def tag(
    texts: Texts, base: str, technique: str, erase_scale: float, preserve_scale: float, lamb: float
) -> str:
    """The published name of a run, e.g. ``nudity_-towards_uncond-preserve_false-sd_1_4-method_replace-erase_1-…``.

    base: "1.4", or the name of another base. Numbers appear as given: the default erase_scale is 1, one typed as 1 is 1.0.
    Where we differ: characters that no file name can hold become ``_``, and a very long name is cut and told apart by a hash.
    """
    model = f"-sd_{base.replace('.', '_')}" if re.fullmatch(r"[\d.]+", base) else f"-{base}"
    scales = f"-method_{technique}-erase_{erase_scale}-preserve_{preserve_scale}-lamb_{lamb}"
    head = "".join(f"{concept}_" for concept in texts.typed) + texts.towards
    return _file_name(head.lower(), (texts.preserving + model + scales).lower())


def run_folder(save_path: str, concept_type: str, emb_computing: str, reg_item: str, tag: str, lamb: float, seed: int) -> Path:
    """The published folder of a run. lamb: `--regular_scale`."""
    variant = emb_computing + (f"_regitem_{reg_item}" if emb_computing == "close_surrogatereg" else "")
    return Path(save_path) / _file_name(concept_type) / variant / tag / f"regular_{lamb}" / f"seed_{seed}"


def _file_name(head: str, tail: str = "") -> str:
    name = "".join("_" if c in '/\\\0:*?"<>|' or ord(c) < 32 else c for c in head)
    if len((name + tail).encode()) > _LONGEST:
        digest = hashlib.sha256(head.encode()).hexdigest()[:8]
        name = name.encode()[: _LONGEST - len(tail.encode()) - 9].decode(errors="ignore") + "~" + digest
    return (name if name.strip(".") else "_") + tail
