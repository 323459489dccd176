"""What one UCE run is told to do: checked, completed with published defaults, and spelled out as texts."""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from methods.uce import concepts as texts
from methods.uce.concepts import Pair

VARIANTS = ("2023", "2025")
TECHNIQUES = ("replace", "tensor")
FORMATS = ("edit", "pt", "safetensors")
NAME_2025 = "uce_test"  # of a run without --exp_name
_PUBLISHED_BASES = ("1.4", "2.1", "toy")


@dataclass(frozen=True)
class Plan:
    """The texts of a run, and what it is called."""

    concepts: tuple[str, ...]  # presets replaced
    guides: tuple[str, ...]  # of each concept
    pairs: tuple[Pair, ...]
    preserved: tuple[str, ...]
    preserve_scale: float
    name: str
    notes: tuple[str, ...] = ()  # flags that do nothing here

    def parts(self, sequential: bool) -> list[list[tuple[str, str]]]:
        """(text, guide) pairs that are edited together: all of them, or those of one concept after the other."""
        if not sequential:
            return [[pair[:2] for pair in self.pairs]]
        return [[pair[:2] for pair in self.pairs if pair.concept == i] for i in range(len(self.concepts))]


@dataclass(frozen=True)
class UceSettings:
    """Settings of a run; lists are still as typed. UserError, in one line, for a value that no run could use."""

    concepts: str
    concept_type: str
    guided_concepts: str | None = None
    preserve_concepts: str | None = None
    preserve_number: int | None = None
    add_prompts: bool = False
    variant: str = "2023"
    technique: str = "replace"
    lamb: float = 0.5
    erase_scale: float = 1.0
    preserve_scale: float | None = None  # None: the variant's rule
    with_to_k: bool = True
    layers: tuple[int, ...] | None = None  # positions among all V, then all K projections; None: all
    sequential: bool = False
    seed: int = 0  # of the artists that are drawn (published: unseeded)
    base: str | None = None  # as typed
    exp_name: str | None = None

    @classmethod
    def of(cls, flags: Any) -> "UceSettings":
        """From an object with these attributes, such as the parsed flags of a command."""
        return cls(**{field.name: getattr(flags, field.name) for field in fields(cls)})

    def __post_init__(self):
        _one_of("variant", self.variant, VARIANTS)
        _one_of("technique", self.technique, TECHNIQUES)
        for name in ("lamb", "erase_scale", "preserve_scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be a number that is not negative, and is {value}")
        if self.erase_scale == 0:
            raise UserError("erase_scale 0 erases nothing")
        if self.layers is not None and (not self.layers or min(self.layers) < 0):
            raise UserError("layers are positions from 0 on, such as 0,1,16,17")
        if self.variant == "2025" and self.preserve_number is not None:
            raise UserError("--preserve_number is of variant 2023: 2025 preserves what --preserve_concepts lists")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def resolved(self, plan: Plan) -> "UceSettings":
        """With the scale that the plan came to."""
        return replace(self, preserve_scale=plan.preserve_scale)

    def plan(self, artists: Sequence[str], kept: Sequence[str] | None = None) -> Plan:
        """Spell the lists out. artists: those that ``<N>artists`` draws from; kept: what type art preserves, or the same."""
        rng = random.Random(self.seed)  # one stream for both draws, as published
        divider = texts.separator(self.concepts, self.guided_concepts, self.preserve_concepts)
        typed = texts.split_list(self.concepts, divider)
        if self.variant == "2023" and not all(typed):
            raise UserError(f"--concepts {self.concepts!r}: a concept is empty")
        concepts = texts.expand(typed, artists, rng)
        guides = None if self.guided_concepts is None else texts.split_list(self.guided_concepts, divider)
        each = texts.broadcast(self._default_guide() if guides is None else guides, len(concepts))
        prefixes = texts.prefixes(self.concept_type, self.variant)
        pairs = texts.pairs(concepts, each, prefixes if self.add_prompts else (), self.variant)
        preserved, drawn = self._preserved(divider, [pair.text for pair in pairs], kept or artists, rng)
        scale = self.preserve_scale
        if scale is None:
            scale = texts.preserve_scale(len(preserved)) if self.variant == "2023" else 1.0
        name = self._name(typed, guides, preserved, drawn)
        return Plan(concepts, each, pairs, preserved, scale, name, self._notes(prefixes, drawn))

    def _default_guide(self) -> tuple[str]:
        if self.variant == "2023":
            return (" ",)  # encodes as the empty text does
        return ("art" if self.concept_type == "art" else "",)

    def _preserved(self, divider: str, erased, artists, rng) -> tuple[tuple[str, ...], bool]:
        """(preserved texts, whether --preserve_number drew them). 2023 preserves the empty text, too."""
        given = None if self.preserve_concepts is None else texts.split_list(self.preserve_concepts, divider)
        if self.variant == "2025":
            return given or (), False
        if given is not None:
            return ("", *filter(None, given)), False
        if self.concept_type != "art":
            return ("",), False
        number = self.preserve_number
        return ("", *texts.other_artists(artists, erased, number, rng)), number is not None

    def _name(self, typed, guides, preserved, drawn: bool) -> str:
        if self.exp_name:
            return texts.file_name(self.exp_name)
        if self.variant == "2025":
            return NAME_2025
        number = self.preserve_number if drawn else None
        base = (self.base or "1.4").replace("_", ".")
        base = base if base in _PUBLISHED_BASES else Path(self.base).stem
        name = texts.run_name(typed, guides, len(preserved) > 1, number, base, self.technique)
        return name + ("-seq" if self.sequential else "")

    def _notes(self, prefixes, drawn: bool) -> tuple[str, ...]:
        notes = []
        if self.add_prompts and not prefixes:
            notes.append(f"--add_prompts has prompts of the types art and object, none of {self.concept_type}")
        if self.preserve_number is not None and not drawn:
            notes.append("--preserve_number draws from the artists of type art without --preserve_concepts: not used")
        return tuple(notes)


def _one_of(name: str, value: str, choices) -> None:
    if value not in choices:
        raise UserError(f"{name} {value!r} is not one of {', '.join(choices)}")
