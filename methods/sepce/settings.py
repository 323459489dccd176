"""What one run of this family is told to do: checked, completed with the defaults of its base model, comparable."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from erasure.errors import UserError
from erasure.training.run_folder import settings_differences
from methods.sepce import WRITERS, preset, run_name

# Settings that change files and not weights: a resumed or repeated run may differ in them. The names of the images that
# a run uses are in its checkpoint.
_ABOUT_FILES = ("save_format", "checkpoint_every", "num_images")
MIN_ITER = 11  # published: the rule that ends training, the limit too, is asked after so many steps and one


@dataclass(frozen=True)
class SepceSettings:
    """Settings of a run. `own` are those that only its method has (``threshold`` of CiE, say); they are printed and saved
    among the others.

    UserError, in one line, for a value that no run could use. A `seed` of None is drawn when the run starts.
    """

    method: str  # one of methods.sepce.METHODS
    concepts: tuple[str, ...]
    lr: float
    iter_break: int  # training ends after so many steps and one, as published
    ddim_steps: int = 50  # timesteps are drawn from that many equal ranges
    image_size: int = 512  # pixels a side of the training images
    num_images: int = 1000  # drawn of a concept that has none
    cycle_images: bool = False  # go round when the images run out (published: training ends)
    sort_images: bool = True
    zero_grad: bool = False  # published: gradients of all steps add up
    seed: int | None = None
    save_format: str = "edit"
    checkpoint_every: int = 100
    own: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def for_family(cls, method: str, family: str, concepts: Sequence[str], **chosen: Any) -> "SepceSettings":
        """The preset of a method and model family (``sd-v1`` or ``toy``) with what the user chose on top; None is no choice."""
        defaults = preset(method, family)
        values = {name: None for name in chosen} | defaults | {k: v for k, v in chosen.items() if v is not None}
        if chosen.get("min_iter") is None and "min_iter" in defaults:  # a preset's is not to outlast the limit by much
            values["min_iter"] = min(values["min_iter"], max(values["iter_break"], MIN_ITER))
        common = {f.name for f in fields(cls)} - {"own"}
        own = {name: value for name, value in values.items() if name not in common}
        given = {name: value for name, value in values.items() if name in common and value is not None}
        return cls(method=method, concepts=tuple(concepts), own=own, **given)

    def __post_init__(self):
        if not self.concepts or not all(concept.strip() for concept in self.concepts):
            raise UserError(f"the concept to erase must not be empty, as in {list(self.concepts)}")
        if self.save_format not in WRITERS:
            raise UserError(f"save_format {self.save_format!r} is not one of {', '.join(WRITERS)}")
        least = {"iter_break": 0, "ddim_steps": 1, "num_images": 1, "checkpoint_every": 0, "image_size": 8}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise UserError(f"{name} must be at least {value}, not {getattr(self, name)}")
        if self.ddim_steps > 1000:
            raise UserError(f"ddim_steps {self.ddim_steps} are more than the 1000 timesteps")
        if self.image_size % 8:
            raise UserError(f"image_size must be a multiple of 8, not {self.image_size}")
        numbers = {"lr": self.lr} | {name: v for name, v in self.own.items() if isinstance(v, float)}
        for name, value in numbers.items():
            if not math.isfinite(value):
                raise UserError(f"{name} must be a number, not {value}")
        positive = {"lr": self.lr} | {name: self.own[name] for name in ("scale_factor",) if name in self.own}
        for name, value in positive.items():
            if value <= 0:
                raise UserError(f"{name} must be greater than 0, not {value}")
        for name, value in self.own.items():
            if name in ("reg_beta", "min_iter") and value < 0:
                raise UserError(f"{name} must not be negative, as {value} is")
            if name == "momentum" and not 0 <= value < 1:
                raise UserError(f"momentum must be at least 0 and less than 1, not {value}")
            if name == "max_base" and value is not None and value < 1:
                raise UserError(f"max_base must be at least 1, not {value}")
        if self.seed is not None and self.seed < 0:
            raise UserError(f"seed must not be negative, as {self.seed} is")

    def __getitem__(self, name: str) -> Any:
        """A setting of the method's own."""
        return self.own[name]

    @property
    def steps(self) -> int:
        """The most that are made, if images suffice: a method's stop rule may not ask before its `min_iter`."""
        return max(self.iter_break, self.own.get("min_iter") or 0) + 1

    @property
    def images_wanted(self) -> int:
        """Images of a concept that are drawn where it has none."""
        return self.num_images if self.cycle_images else min(self.num_images, self.steps)

    @property
    def run_name(self) -> str:
        """Published name of the run's folder and files."""
        return run_name(self.method, self.concepts, self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """All settings in one level, as json has them."""
        common = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("method", "own")}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in (common | self.own).items()}

    def differences(self, there: dict[str, Any]) -> list[str]:
        """What would make the weights other than those of a run with settings `there` on the same base, in words."""
        return settings_differences(self.to_dict(), there, _ABOUT_FILES)
