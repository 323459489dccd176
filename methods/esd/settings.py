"""What one ESD run is told to do: checked, completed with the defaults of its base model, comparable with another run's."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any

from erasure.errors import UserError
from erasure.training.run_folder import base_difference, settings_differences
from methods.esd import PRESETS, SAMPLER_MODELS, TRAIN_METHODS, WRITERS, preset
from methods.esd.esd import NUM_TIMESTEPS, concept_pairs, diffusers_name, run_name

# Settings that change files and not weights: a resumed or repeated run may differ in them.
_ABOUT_FILES = ("save_format", "save_every", "checkpoint_every")


@dataclass(frozen=True)
class EsdSettings:
    """Settings of a run; the defaults are the published ones for Stable Diffusion v1 (`for_family` has the others).

    UserError, in one line, for a value that no run could use. A `seed` of None is drawn when the run starts.
    """

    prompt: str = "Van Gogh"
    train_method: str = "xattn"
    seperator: str | None = None
    erase_from: str | None = None
    start_guidance: float = PRESETS["sd-v1"]["start_guidance"]
    negative_guidance: float = PRESETS["sd-v1"]["negative_guidance"]
    iterations: int = PRESETS["sd-v1"]["iterations"]
    lr: float = PRESETS["sd-v1"]["lr"]
    ddim_steps: int = PRESETS["sd-v1"]["ddim_steps"]
    image_size: int = PRESETS["sd-v1"]["image_size"]
    sampler_model: str = "esd"
    exact_sampling: bool = False
    seed: int | None = None
    save_format: str = "safetensors"
    save_every: int = 500
    checkpoint_every: int = PRESETS["sd-v1"]["checkpoint_every"]

    @classmethod
    def for_family(cls, family: str, **chosen: Any) -> "EsdSettings":
        """The preset of a model family (``sd-v1`` or ``toy``) with what the user chose on top; None is not a choice."""
        chosen = {name: value for name, value in chosen.items() if value is not None}
        return cls(**preset(family, chosen.get("train_method", cls.train_method)) | chosen)

    def __post_init__(self):
        _one_of("train_method", self.train_method, TRAIN_METHODS)
        _one_of("sampler_model", self.sampler_model, SAMPLER_MODELS)
        _one_of("save_format", self.save_format, WRITERS)
        for name, least in (("iterations", 1), ("ddim_steps", 2), ("save_every", 0), ("checkpoint_every", 0)):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for name in ("start_guidance", "negative_guidance", "lr"):
            if not math.isfinite(getattr(self, name)):
                raise UserError(f"{name} must be a number, not {getattr(self, name)}")
        if self.lr <= 0:
            raise UserError(f"lr must be greater than 0, not {self.lr}")
        if self.image_size < 8 or self.image_size % 8:
            raise UserError(f"image_size must be a multiple of 8, not {self.image_size}")
        if self.seed is not None and self.seed < 0:
            raise UserError(f"seed must not be negative, as {self.seed} is")
        try:
            concept_pairs(self.prompt, self.seperator, self.erase_from)
            _check_grid(self.ddim_steps)
        except ValueError as error:
            raise UserError(str(error)) from None

    @property
    def pairs(self) -> list[tuple[str, str | None]]:
        """(concept to erase, text it is erased from or None) of everything this run may draw."""
        return concept_pairs(self.prompt, self.seperator, self.erase_from)

    @property
    def concepts(self) -> list[str]:
        return [concept for concept, _ in self.pairs]

    @property
    def run_name(self) -> str:
        """Published name of the run's folder and files."""
        return run_name(
            self.prompt, self.train_method, self.start_guidance, self.negative_guidance, self.iterations, self.lr
        )

    @property
    def weights_names(self) -> tuple[str, str]:
        """Published names, without their ending, of the files of the whole model and of its UNet for diffusers."""
        return self.run_name, diffusers_name(self.run_name)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def differences(self, there: dict[str, Any]) -> list[str]:
        """What would make the weights other than those of a run with settings `there` on the same base, in words."""
        defaults = {field.name: field.default for field in fields(self)}
        return settings_differences(self.to_dict(), there, _ABOUT_FILES, defaults)


def _one_of(name: str, value: str, choices) -> None:
    if value not in choices:
        raise UserError(f"{name} {value!r} is not one of {', '.join(choices)}")


def _check_grid(ddim_steps: int) -> None:
    from ldm.modules.diffusionmodules.util import make_ddim_timesteps

    make_ddim_timesteps("uniform", ddim_steps, NUM_TIMESTEPS, verbose=False)


def differences(wanted: EsdSettings, wanted_base: str, there: dict[str, Any], there_base: str) -> list[str]:
    """What would make a run's weights other than those of a run saved with settings `there`, in words.

    Bases are hashes. A wanted seed of None agrees with any.
    """
    return wanted.differences(there) + base_difference({"sha256": wanted_base}, {"sha256": there_base})
