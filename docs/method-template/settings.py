"""What one run is told to do: checked, completed with the defaults of its base model, comparable with another run's."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from erasure.errors import UserError
from erasure.training.naming import name_part, plain
from erasure.training.run_folder import settings_differences
from methods.mymethod import NAME, PRESERVED, PRESETS


@dataclass(frozen=True)
class Settings:
    """Settings of a run; a seed of None is drawn when it starts. UserError, in one line, for a value that no run could use."""

    concept: str
    neutral: str = "art"
    preserve: str = ""  # a comma list, as typed
    preserve_scale: float = 3.0
    iterations: int = PRESETS["sd-v1"]["iterations"]
    lr: float = PRESETS["sd-v1"]["lr"]
    seed: int | None = None
    checkpoint_every: int = 100

    @classmethod
    def for_family(cls, family: str, **chosen: Any) -> "Settings":
        """The preset of a model family (``sd-v1`` or ``toy``) with what the user chose on top; None is not a choice."""
        return cls(**PRESETS[family] | {name: value for name, value in chosen.items() if value is not None})

    def __post_init__(self):
        if not self.concept.strip():
            raise UserError("the concept is empty")
        if plain(self.concept) == plain(self.neutral):
            raise UserError(f"nothing to erase: {self.neutral!r} stands for itself; give another --neutral")
        for name, least in (("iterations", 1), ("checkpoint_every", 0), ("seed", 0), ("preserve_scale", 0)):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= least):
                raise UserError(f"{name} must be at least {least}, not {value}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise UserError(f"lr must be greater than 0, not {self.lr}")

    @property
    def preserved(self) -> tuple[str, ...]:
        """Texts that are to stay as they are."""
        return (*PRESERVED, *filter(None, (text.strip() for text in self.preserve.split(","))))

    @property
    def run_name(self) -> str:
        return f"{NAME}-{name_part(self.concept, blanks=False)}"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def differences(self, there: Mapping[str, Any]) -> list[str]:
        """What would make the weights other than those of a run with settings `there`, in words."""
        return settings_differences(self.to_dict(), there, about_files=("checkpoint_every",))
