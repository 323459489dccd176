"""What the training of one concept is told to do: from a published YAML file, the entry of its concept, and flags on top."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from erasure.errors import UserError
from erasure.training.naming import name_part
from erasure.training.run_folder import settings_differences
from methods.cpe import sampling, schedule
from methods.cpe.yaml_files import read_config, read_yaml

_ABOUT_FILES = ("name", "folder", "stage_interval", "checkpoint_every", "log_every")
_TRAIN = (
    "iterations", "lr", "lr_scheduler", "lr_warmup_steps", "lr_scheduler_num_cycles", "pal", "num_stages",
    "iterations_adv", "lr_adv", "lr_scheduler_adv", "lr_warmup_steps_adv", "lr_scheduler_num_cycles_adv",
    "num_add_prompts", "adv_coef", "factor_init_iter", "factor_init_lr", "factor_init_lr_cycle", "do_adv_learn",
    "optimizer_type", "optimizer_args", "noise_scale", "mixup", "separate_key", "clean_anchors", "skip_last_adv",
    "checkpoint_every", "log_every", "max_grad_norm",
)  # fmt: skip
_TRAIN_ELSEWHERE = ("train_seed", "resume_stage", "st_prompt_idx", "end_prompt_idx", "skip_learned")
_TRAIN_UNUSED = (  # published keys; no file had another precision, and the others have no effect there either
    "precision", "noise_scheduler", "batch_size", "unet_lr", "text_encoder_lr", "lr_scheduler_power", "lr_scheduler_args",
    "lr_scheduler_power_adv", "lr_scheduler_args_adv",
    "max_denoising_steps", "portion", "value_weight", "importance_path", "push_strength", "norm_strength",
    "swap_iteration", "erase_scale", "num_multi_concepts",
)  # fmt: skip
# the first is bitsandbytes' in the original, and AdamW in full precision here
OPTIMIZERS = ("AdamW8bit", "AdamW", "Adam")
_AT_LEAST = dict(
    iterations=1, iterations_adv=1, num_stages=1, factor_init_iter=1, sampling_batch_size=1, num_add_prompts=1,
    gate_rank=1, rank=1, lr_warmup_steps=0, lr_warmup_steps_adv=0, resume_stage=0, stage_interval=1, log_every=1,
    checkpoint_every=0, seed=0,
)  # fmt: skip


@dataclass(frozen=True)
class CpeSettings:
    """Settings of one concept's training; defaults are those of the published configuration classes.

    UserError, in one line, for a value that no training could use.
    """

    target: str
    neutral: str
    word: str  # that stands for the concept in templates: actor, artist, explicit
    scripts_file: str  # templates
    anchors: Mapping[str, Any]  # general and candidates, or prompts: files or lists of words
    name: str = "untitled"  # of the files
    folder: str = "output"
    guidance: float = 1.0  # gamma
    sampling_batch_size: int = 4  # S
    gate_rank: int = 16
    rank: int = 1  # rho
    alpha: float = 1.0
    separate_key: bool = False  # the paper's two projections (published: one)
    seed: int = 0
    iterations: int = 3000
    lr: float = 1e-4
    lr_scheduler: str = "cosine_with_restarts"
    lr_warmup_steps: int = 500
    lr_scheduler_num_cycles: float = 3
    pal: float = 0.01
    num_stages: int = 10
    iterations_adv: int = 1000
    lr_adv: float = 1e-4
    lr_scheduler_adv: str = "cosine_with_restarts"
    lr_warmup_steps_adv: int = 500
    lr_scheduler_num_cycles_adv: float = 3
    num_add_prompts: int = 10  # A
    adv_coef: float = 0.1
    factor_init_iter: int = 1
    factor_init_lr: float = 1
    factor_init_lr_cycle: float = 1
    do_adv_learn: bool = False
    optimizer_type: str = "AdamW8bit"
    optimizer_args: Any = None
    max_grad_norm: float = 0.0  # of all gradients together; 0: not clipped
    noise_scale: float = sampling.NOISE_SCALE
    mixup: bool = True
    clean_anchors: bool = False
    skip_last_adv: bool = False
    resume_stage: int = 0
    stage_interval: int = 1
    checkpoint_every: int = 500  # iterations
    log_every: int = 50

    @classmethod
    def of(cls, config: Mapping[str, Any], entry: Mapping[str, Any], flags: Mapping[str, Any]) -> "CpeSettings":
        """config: `yaml_files.read_config`; entry: of its prompts_file; flags: those that the user gave, by field name.

        `noise` is the published flag's text, which the folder's name repeats as it was typed.
        """
        network, train, save = (mapping_in(config, key) for key in ("network", "train", "save"))
        _check_train(train)
        known = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {name: train[name] for name in _TRAIN if train.get(name) is not None}
        values |= {"word": config.get("replace_word"), "scripts_file": config.get("scripts_file")}
        values |= {"anchors": mapping_in(config, "anchors"), "name": save.get("name"), "seed": train.get("train_seed")}
        values |= {"stage_interval": save.get("stage_interval"), "resume_stage": train.get("resume_stage")}
        values |= {"rank": network.get("rank"), "alpha": network.get("alpha"), "gate_rank": network.get("init_size")}
        stand_ins = (entry.get("neutral"), entry.get("unconditional"), "")
        values |= {"target": entry.get("target"), "neutral": next(text for text in stand_ins if text is not None)}
        values |= {"guidance": entry.get("guidance_scale"), "sampling_batch_size": entry.get("sampling_batch_size")}
        values |= {name: value for name, value in flags.items() if name in known and value is not None}
        values = {name: as_type(known[name], value, name) for name, value in values.items() if value is not None}
        for name in ("target", "word", "scripts_file"):
            if not values.get(name, "").strip():
                where = "the prompts_file's entry" if name == "target" else "the configuration"
                raise UserError(f"{where} has no {'replace_word' if name == 'word' else name}")
        settings = cls(**values)
        return replace(settings, folder=str(settings._folder(str(save.get("path") or "output"), flags)))

    @classmethod
    def for_concept(cls, domain: str, family: str, target: str, **flags: Any) -> "CpeSettings":
        """The shipped configuration of a domain (celeb, artist, explicit, object) for any concept of its kind."""
        config = read_config(f"configs/train_{domain}/config.yaml", family)
        first = read_yaml(config["prompts_file"])[0]
        return cls.of(config, first | {"target": target}, flags)

    def _folder(self, path: str, flags: Mapping[str, Any]) -> Path:
        """save.path with the run's values: ``guide#`` becomes ``guide0.3``, and ACTOR the concept (published: the leaf of celebrities stayed)."""
        for mark, value in (("guide#", self.guidance), ("gate_rank#", self.gate_rank), ("pal#", self.pal)):
            path = path.replace(mark, mark.replace("#", str(value)))
        parts = Path(path).parts
        more = f"_lora_rank{self.rank}" if flags.get("rank") is not None else ""
        more += f"_noise{flags['noise']}" if flags.get("noise") else ""
        more += "" if self.mixup else "_nomixup"
        parts = [part.replace(self.word.upper(), name_part(self.target.replace(" ", "_"))) for part in parts]
        if len(parts) < 2:
            raise UserError(f"save.path {path!r} needs a folder for the run and one in it for the concept")
        return Path(*parts[:-2], parts[-2] + more, parts[-1])

    def __post_init__(self):
        for name in ("lr_scheduler", "lr_scheduler_adv"):
            schedule.check_scheduler(getattr(self, name))
        if self.optimizer_type not in OPTIMIZERS:
            raise UserError(f"optimizer_type {self.optimizer_type!r} is not one of {', '.join(OPTIMIZERS)}")
        if self.optimizer_args:
            raise UserError("optimizer_args is not supported: no published run used it")
        for name, least in _AT_LEAST.items():
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, not {getattr(self, name)}")
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and not (math.isfinite(value) and value >= 0):
                raise UserError(f"{field.name} must be a number that is not negative, and is {value}")
        for name in ("lr", "lr_adv", "factor_init_lr", "alpha"):
            if not getattr(self, name):
                raise UserError(f"{name} must be greater than 0: nothing would be trained")
        if self.resume_stage >= self.num_stages:
            raise UserError(f"resume_stage {self.resume_stage} of {self.num_stages} stages: nothing would be trained")
        if not {"general", "candidates"} <= self.anchors.keys() and "prompts" not in self.anchors:
            raise UserError("the configuration's anchors need general and candidates, or prompts")
        for name, words in self.anchors.items():
            if not isinstance(words, (str, list, tuple)):
                raise UserError(f"anchors.{name} must be a file or a list of words, not {words!r}")

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def differences(self, there: Mapping[str, Any]) -> list[str]:
        """What would make the gates other than those of a run with settings `there`, in words."""
        return settings_differences(self.to_dict(), there, _ABOUT_FILES)


def _check_train(train: Mapping[str, Any]) -> None:
    """UserError for a key that no training reads, as a slip of the pen is, and for another precision."""
    if unknown := sorted(map(str, train.keys() - {*_TRAIN, *_TRAIN_ELSEWHERE, *_TRAIN_UNUSED})):
        raise UserError(f"train in the configuration has unknown settings: {', '.join(unknown)}")
    if train.get("precision") not in (None, "float32", "fp32"):
        raise UserError(f"train.precision {train['precision']!r}: training is in float32, as published")


def mapping_in(config: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The block of a configuration under a key, {} if it has none. UserError for anything but key: value."""
    value = config.get(key) or {}
    if not isinstance(value, Mapping):
        raise UserError(f"{key} in the configuration holds no settings (key: value)")
    return value


def as_type(kind: Any, value: Any, name: str) -> Any:
    """A value of a YAML file as what it is meant to be: there 1e+4 is a text, and prompt files quote the guidance.

    Kinds other than int, float, bool and str: as it is. UserError, with the name, for what cannot be meant.
    """
    if kind not in (int, float, bool, str):
        return value
    try:
        if kind is bool:
            return {True: True, False: False, "true": True, "false": False}[
                value.lower() if isinstance(value, str) else value
            ]
        if kind is int and not isinstance(value, int):
            if not float(value).is_integer():
                raise ValueError
            return int(float(value))
        if kind is str and not isinstance(value, (str, int, float)):
            raise TypeError
        return kind(value)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(f"{name} must be {kind.__name__}, not {value!r}") from None
