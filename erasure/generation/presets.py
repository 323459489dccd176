"""How each family drew its evaluation images: settings, which columns of the CSV count, and where the files go.

    settings("esd", steps=50)       # ESD's published settings with half its steps

Sources: the evaluation scripts of ESD, UCE, RECE, SepCE, MACE and CPE. ESD, UCE and SepCE drew the noise on the CPU,
RECE and CPE on the GPU, which gives other images for the same seed.
"""

import math
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from erasure.errors import UserError
from erasure.prompts import Row

SAMPLERS = ("ddim", "plms", "dpm", "lms")  # those of erasure.samplers, which a command line does not import
NOISE_DEVICES = ("cpu", "cuda")
_NAME_BYTES = 230  # file systems allow 255, of which a temporary name takes 24 more


@dataclass(frozen=True)
class GenerationSettings:
    """Everything about an image but its row and the model."""

    preset: str = ""
    sampler: str = "ddim"  # one of erasure.samplers.NAMES
    steps: int = 50
    guidance: float = 7.5
    image_size: int | None = None  # pixels a side; None: what the model was trained on
    num_samples: int = 1  # images per row
    noise_device: str = "cpu"  # where a row's generator lives: cpu, or cuda for the model's GPU
    eta: float = 0.0  # noise added by DDIM
    negative_prompt: str = ""
    row_guidance: bool = False  # the row's evaluation_guidance counts, where it has one
    row_size: bool = False  # the row's width and height count, where it has them
    naming: str = "case"
    default_seed: int | None = None  # for a CSV without a seed column
    batch_size: int | None = None  # images drawn at once, of any rows; None: by image size


_ESD = GenerationSettings(sampler="lms", steps=100)
_RECE = replace(_ESD, steps=50, noise_device="cuda", row_guidance=True, row_size=True, default_seed=42)
# PLMS is the PNDM scheduler that the pipeline of CPE ran with
_CPE = GenerationSettings(sampler="plms", noise_device="cuda", naming="cpe")
PRESETS = {
    "esd": _ESD,
    "uce": _ESD,
    "sepce": _ESD,
    "rece": _RECE,
    "mace": GenerationSettings(naming="mace"),
    "cpe": _CPE,
    "cpe-explicit": replace(_CPE, row_guidance=True, naming="cpe-explicit"),
    # the embedded model, at the sampler and guidance it was measured with
    "toy": GenerationSettings(steps=25, guidance=2.5),
    # as good there, in less than half of the calls
    "toy-fast": GenerationSettings(sampler="dpm", steps=10, guidance=2.5),
}
PRESET_OF_FAMILY = {"sd-v1": "esd", "toy": "toy"}


def settings(preset: str, **overrides) -> GenerationSettings:
    """Settings of a preset; overrides of None leave its values. UserError for an unknown preset or a bad value."""
    if preset not in PRESETS:
        raise UserError(f"unknown preset {preset!r}; choose from {', '.join(PRESETS)}")
    given = {name: value for name, value in overrides.items() if value is not None}
    result = replace(PRESETS[preset], **{"preset": preset, **given})
    check(result)
    return result


def check(s: GenerationSettings) -> None:
    """UserError for a value that no image can be drawn with."""
    if s.sampler not in SAMPLERS:
        raise UserError(f"unknown sampler {s.sampler!r}; choose from {', '.join(SAMPLERS)}")
    if s.noise_device not in NOISE_DEVICES:
        raise UserError(f"noise device {s.noise_device!r} is not one of {', '.join(NOISE_DEVICES)}")
    if s.naming not in NAMINGS:
        raise UserError(f"unknown naming {s.naming!r}; choose from {', '.join(NAMINGS)}")
    for name in ("steps", "num_samples", "batch_size", "image_size"):
        value = getattr(s, name)
        if value is not None and value < 1:
            raise UserError(f"{name} must be at least 1, not {value}")
    if not math.isfinite(s.guidance):
        raise UserError(f"guidance must be a number, not {s.guidance}")
    if not 0 <= s.eta < math.inf:
        raise UserError(f"eta must not be negative, and is {s.eta}")
    if s.eta and s.sampler != "ddim":
        raise UserError(f"sampler {s.sampler} is deterministic: eta must be 0, not {s.eta}; ddim can add noise")
    if s.steps < 2 and s.sampler in ("dpm", "lms"):
        raise UserError(f"sampler {s.sampler} needs at least 2 steps, not {s.steps}")


# ---- where the images go -------------------------------------------------------------------------------------------


def image_folder(preset: str, save_path: str | os.PathLike, label: str, concept: str | None = None) -> Path:
    """The folder of a run's images: ``{save_path}/{label}``, but UCE shortened the label and RECE had it otherwise."""
    if preset == "uce":
        label = label.replace("diffusers-", "").replace(".pt", "")
    if preset == "rece":
        return Path(save_path) / (concept or label) / "imgs"
    return Path(save_path) / label


def _safe(text: str) -> str:
    """A prompt as part of a file name: no line breaks and other control characters, no separators of folders."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", "", text).replace("/", "_").replace("\\", "_")


def _limited(prompt: str, tail: str) -> str:
    room = _NAME_BYTES - len(tail.encode())
    return prompt.encode()[:room].decode(errors="ignore") + tail


def _case(row: Row, k: int) -> str:
    return f"{row.case_number}{row.mark}_{k}.png"


def _cpe(row: Row, k: int) -> str:
    return _limited(_safe(row.prompt).replace(" ", "_"), f"{row.mark}_{row.evaluation_seed}_{k}.png")


def _cpe_explicit(row: Row, k: int) -> str:
    """As CPE names images of explicit prompts, but with the case number (published: a constant, so that names collide)."""
    start = _safe(row.prompt[:20].replace("/", "")).replace(" ", "-")
    return f"{row.case_number}_{start}{row.mark}_{row.evaluation_seed}_{k}.png"


def _mace(row: Row, k: int) -> str:
    return _limited(_safe(row.prompt), f"{row.mark}_{row.evaluation_seed}" + (f"_{k}" if k else "") + ".png")


def _named(row: Row, k: int) -> str:
    """By a column `name`, where the row has one; RECE's pictures of embeddings are {epoch}-{concept}_{k}.png."""
    return _limited(_safe(row.extra.get("name") or str(row.case_number)), f"{row.mark}_{k}.png")


NAMINGS = {"case": _case, "named": _named, "cpe": _cpe, "cpe-explicit": _cpe_explicit, "mace": _mace}
"""Names of image k of a row. ``case`` is free of prompt text and cannot collide: the default of most presets."""
