"""What one debiasing run is told to do: checked, completed with published defaults, and spelled out as texts."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from methods.uce import concepts as lists
from methods.uce import debias_concepts
from methods.uce.settings import NAME_2025, VARIANTS

_TOLERANCE = 1e-6  # of the sum of the desired ratios


@dataclass(frozen=True)
class DebiasPlan:
    """The texts of a run, and what it is called."""

    concepts: tuple[str, ...]
    attributes: tuple[str, ...]
    texts: tuple[str, ...]  # all that are edited
    attribute_texts: tuple[tuple[str, ...], ...]  # of each of them
    preserved: tuple[str, ...]
    desired: tuple[float, ...]
    name: str


@dataclass(frozen=True)
class DebiasSettings:
    """Settings of a run; lists are still as typed, None is the default of the variant or of the base model.

    UserError, in one line, for a value that no run could use.
    """

    concept: str
    attributes: str = "male, female"
    preserve_concepts: str | None = None
    variant: str = "2023"
    desired_ratios: tuple[float, ...] | None = None  # None: equal
    max_iterations: int = 30
    max_diff: float = 0.05
    step_size: float | None = None
    num_images: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    erase_scale: float = 1.0
    preserve_scale: float | None = None
    lamb: float = 0.5
    templates: bool | None = None
    seed: int = 0
    base: str | None = None  # as typed
    exp_name: str | None = None

    @classmethod
    def of(cls, flags: Any) -> "DebiasSettings":
        """From an object with these attributes, such as the parsed flags of a command."""
        return cls(**{field.name: getattr(flags, field.name) for field in fields(cls)})

    def __post_init__(self):
        if self.variant not in VARIANTS:
            raise UserError(f"variant {self.variant!r} is not one of {', '.join(VARIANTS)}")
        for name in ("num_images", "num_inference_steps", "max_iterations"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        for name in ("max_diff", "step_size", "guidance_scale", "erase_scale", "preserve_scale", "lamb"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{name} must be a number that is not negative, and is {value}")
        for name in ("step_size", "erase_scale"):
            if getattr(self, name) == 0:
                raise UserError(f"{name} 0 changes nothing")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"seed must be between 0 and {2**32 - 1}, not {self.seed}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def for_family(self, family: str) -> "DebiasSettings":
        """With the defaults of the variant and of the base model's family (``sd-v1`` or ``toy``) filled in."""
        defaults = debias_concepts.PRESETS[self.variant] | debias_concepts.IMAGES[family]
        return replace(self, **{name: value for name, value in defaults.items() if getattr(self, name) is None})

    def plan(self, family: str) -> DebiasPlan:
        """Spell the lists out, for a base model of that family. UserError for lists that cannot be balanced."""
        divider = lists.separator(self.concept, self.attributes, self.preserve_concepts)
        typed = _items("--concept", self.concept, divider)
        attributes = _items("--attributes", self.attributes, divider)
        if len(set(attributes)) < 2:
            raise UserError(f"--attributes {self.attributes!r}: give two or more, such as 'male, female'")
        if len(set(attributes)) < len(attributes):
            raise UserError(f"--attributes {self.attributes!r}: one is there twice")
        concepts = debias_concepts.expand(typed)
        templates = self.for_family(family).templates
        texts, attribute_texts = debias_concepts.prompts(concepts, attributes, templates)
        return DebiasPlan(
            concepts, attributes, texts, attribute_texts, self._preserved(texts, divider, family),
            self._desired(len(attributes)), self._name(typed, attributes),
        )  # fmt: skip

    def _preserved(self, texts, divider: str, family: str) -> tuple[str, ...]:
        """The other professions; on the embedded model, which knows none, and in 2025 nothing."""
        if self.preserve_concepts is not None:
            return tuple(filter(None, lists.split_list(self.preserve_concepts, divider)))
        return debias_concepts.other_professions(texts) if (self.variant, family) == ("2023", "sd-v1") else ()

    def _desired(self, count: int) -> tuple[float, ...]:
        desired = self.desired_ratios or (1 / count,) * count
        if len(desired) != count:
            raise UserError(f"{len(desired)} desired ratios for {count} attributes: give one for each")
        if min(desired) < 0 or not abs(sum(desired) - 1) < _TOLERANCE:
            raise UserError(f"desired ratios must be shares that add up to 1, and are {' '.join(map(str, desired))}")
        return tuple(desired)

    def _name(self, typed, attributes) -> str:
        if self.exp_name:
            return lists.file_name(self.exp_name)
        if self.variant == "2025":
            return NAME_2025
        base = (self.base or "1.4").replace("_", ".")
        return debias_concepts.run_name(typed, attributes, base if base in ("1.4", "toy") else Path(base).stem)


def _items(flag: str, text: str, divider: str) -> tuple[str, ...]:
    items = lists.split_list(text, divider)
    if not all(items):
        raise UserError(f"{flag} {text!r}: an item is empty")
    return items
