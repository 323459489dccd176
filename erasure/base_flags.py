"""The flags by which every script that makes an edit names its base model and device, and that model."""

import argparse
from collections.abc import Callable
from pathlib import Path

from erasure import runs
from erasure.base_models import SD_CKPT, TOY_CKPT, WEIGHTS, published_base, resolve


def add_base_flags(parser: argparse.ArgumentParser, device: str = "0", weights: str = "ema") -> None:
    """--base, --ckpt_path, --config_path, --weights, --unsafe_pickle, --device.

    device: the published default. weights: which of a checkpoint's two sets the published script started from: ema for
    those that load diffusers' copies of Stable Diffusion.
    """
    group = parser.add_argument_group("base model")
    which = group.add_mutually_exclusive_group()
    which.add_argument("--base", help="1.4, toy, or anything that --ckpt_path takes")
    _add_checkpoint(group, which)
    group.add_argument(
        "--weights",
        choices=WEIGHTS[1:],
        help=f"of a file with both (default: {weights}, as published)",
    )
    parser.set_defaults(weights_of_both=weights)
    _add_unsafe_pickle(group)
    group.add_argument("--device", help=f"cpu, cuda:0, or the number of a GPU (default: {device}; cpu without a GPU)")


def add_trainer_base_flags(parser: argparse.ArgumentParser) -> None:
    """--ckpt_path, --config_path, --diffusers_config_path, --weights, --unsafe_pickle: as ESD and SepCE's trainers have them.

    They start from the raw weights of a checkpoint. Their ``--devices`` (`erasure.devices`) belongs to the run.
    """
    group = parser.add_argument_group("base model")
    _add_checkpoint(group, group)
    group.add_argument("--diffusers_config_path", default="diffusers_unet_config.json", help="accepted and not needed")
    group.add_argument(
        "--weights", choices=WEIGHTS, default="auto", help="of a file with both: raw (auto, as published) or ema"
    )
    _add_unsafe_pickle(group)


def _add_checkpoint(group, which) -> None:
    which.add_argument(
        "--ckpt_path", help=f"checkpoint or diffusers folder (default: {SD_CKPT} if it is there, else {TOY_CKPT})"
    )
    group.add_argument("--config_path", help="its configuration (default: the one that fits the checkpoint)")


def _add_unsafe_pickle(group) -> None:
    group.add_argument(
        "--unsafe_pickle", action="store_true", help="let a checkpoint run its code: only for your own files"
    )


TRAINER_BASE_FLAGS = ("ckpt_path", "config_path", "diffusers_config_path", "weights", "unsafe_pickle", "devices")
"""Names of the arguments that say where a trainer starts and runs; the others are about what it does."""


def load_base(arguments: argparse.Namespace, before: Callable[[str], None] | None = None):
    """(LatentDiffusion on its device, BaseIdentity) of those flags; says which base it is. UserError if there is none.

    before: called with the family of the base before gigabytes are read.
    """
    given = arguments.ckpt_path or getattr(arguments, "base", None)
    path, config_path = resolve(published_base(given), arguments.config_path, arguments.unsafe_pickle)
    announce(path, given)
    from erasure import base_models

    if before is not None:
        before(base_models.family_of(config_path))
    model, identity = base_models.load(
        path, config_path, _device(arguments), weights=_weights(arguments), unsafe_pickle=arguments.unsafe_pickle
    )
    if identity.weights != "only":
        print(f"weights: {identity.weights}, of a file with raw and ema weights (--weights chooses)")
    return model, identity


def _device(arguments: argparse.Namespace):
    if not hasattr(arguments, "devices"):
        from erasure.generation.models import pick_device

        return pick_device(arguments.device)
    import torch

    from erasure.devices import choose_device

    device, remarks = choose_device(arguments.devices, torch.cuda.device_count())
    for remark in remarks:
        print(remark)
    return device


def _weights(arguments: argparse.Namespace) -> str:
    return arguments.weights or ("prefer_ema" if arguments.weights_of_both == "ema" else "auto")


def announce(path: Path, given: str | None) -> None:
    """Say which base model a run is about to load."""
    if given:
        print(f"base: {path}")
    elif path == runs.find(TOY_CKPT):
        print(f"base: the embedded model ({path}), as there is no Stable Diffusion v1.4 at {SD_CKPT}")
    else:
        print(f"base: Stable Diffusion v1.4 ({path})")
