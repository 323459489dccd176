"""The texts that a published command means, and the folder that it writes to."""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from erasure.errors import UserError
from methods.uce.concepts import broadcast, expand, file_name, other_artists, split_list

SEED = 123  # to which the published scripts set every generator, whatever their --seed says


@dataclass(frozen=True)
class Texts:
    """What a command's text flags come to. Presets are replaced but in `typed`; names are made from what was typed."""

    typed: tuple[str, ...]
    concepts: tuple[str, ...]
    guides: tuple[str, ...]  # one a concept
    targets: tuple[str | None, ...]  # one a concept
    preserved: tuple[str, ...]  # what was asked to stay, without the empty text that always does
    towards: str  # of the name
    keeping: str  # of the name


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
    found = expand(typed, artists, random.Random(SEED))
    guides = None if guided_concepts is None else split_list(guided_concepts)
    targets = (None,) * len(found) if old_target_concept is None else split_list(old_target_concept)
    if len(targets) != len(found):
        raise UserError(f"--old_target_concept has {len(targets)} texts for {len(found)} concepts: give one for each")
    preserved = tuple(filter(None, split_list(preserve_concepts or "")))
    if preserve_concepts is None and keep_artists and concept_type == "art":
        preserved = other_artists(artists, found)
    keeping = f"-preserve_{str(bool(preserved)).lower()}"
    if preserve_number is not None:
        if not 1 <= preserve_number <= len(preserved):
            raise UserError(f"--preserve_number {preserve_number}: there are {len(preserved)} texts to choose from")
        preserved = tuple(random.Random(SEED).sample(preserved, preserve_number))
        keeping = f"-preserving_{preserve_number}artists{keeping}"
    return Texts(
        typed,
        found,
        tuple(guide or " " for guide in broadcast(guides or (" ",), len(found))),
        tuple(None if target in (None, "none") else target or " " for target in targets),
        preserved,
        _towards("".join(f"{concept}_" for concept in typed), guides),
        keeping,
    )


def _towards(concepts: str, guides: Sequence[str] | None) -> str:
    if guides is None:
        return "-towards_uncond"
    if len(guides) == 1:
        return f"-towards_{guides[0]}"
    towards = "-towards"
    for guide in guides:
        towards += "" if guide in concepts + towards else f"-{guide}"  # as published: not what the name holds already
    return towards


def run_tag(texts: Texts, base: str, technique: str, erase_scale: float, preserve_scale: float, lamb: float) -> str:
    """The published name of a run, e.g. ``nudity_-towards_uncond-preserve_false-sd_1_4-method_replace-erase_1-…``.

    base: "1.4", or the name of another model. Numbers appear as published: the default erase_scale is 1, a typed one 1.0.
    """
    model = f"sd_{base.replace('.', '_')}" if re.fullmatch(r"[\d.]+", base) else base
    head = "".join(f"{concept}_" for concept in texts.typed) + texts.towards
    scales = f"-method_{technique}-erase_{erase_scale}-preserve_{preserve_scale}-lamb_{lamb}"
    return file_name(head.lower(), f"{texts.keeping}-{model}{scales}".lower())


def run_folder(
    save_path: str, concept_type: str, emb_computing: str, reg_item: str, tag: str, regular_scale: float, seed: int
) -> Path:
    """The published folder of a run."""
    variant = emb_computing + (f"_regitem_{reg_item}" if emb_computing == "close_surrogatereg" else "")
    kind = file_name(concept_type)
    return Path(save_path) / kind / variant / tag / f"regular_{regular_scale}" / f"seed_{seed}"
