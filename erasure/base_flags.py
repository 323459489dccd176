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
    which.add_argument(
        "--ckpt_path", help=f"checkpoint or diffusers folder (default: {SD_CKPT} if it is there, else {TOY_CKPT})"
    )
    group.add_argument("--config_path", help="its configuration (default: the one that fits the checkpoint)")
    group.add_argument(
        "--weights",
        choices=WEIGHTS[1:],
        help=f"of a file with both (default: {weights}, as published)",
    )
    parser.set_defaults(weights_of_both=weights)
    group.add_argument(
        "--unsafe_pickle", action="store_true", help="let a checkpoint run its code: only for your own files"
    )
    group.add_argument("--device", help=f"cpu, cuda:0, or the number of a GPU (default: {device}; cpu without a GPU)")


def load_base(arguments: argparse.Namespace, before: Callable[[str], None] | None = None):
    """(LatentDiffusion on its device, BaseIdentity) of those flags; says which base it is. UserError if there is none.

    before: called with the family of the base before gigabytes are read.
    """
    given = arguments.ckpt_path or arguments.base
    path, config_path = resolve(published_base(given), arguments.config_path, arguments.unsafe_pickle)
    announce(path, given)
    from erasure import base_models

    if before is not None:
        before(base_models.family_of(config_path))
    from erasure.generation.models import pick_device

    model, identity = base_models.load(
        path,
        config_path,
        pick_device(arguments.device),
        weights=arguments.weights or ("prefer_ema" if arguments.weights_of_both == "ema" else "auto"),
        unsafe_pickle=arguments.unsafe_pickle,
    )
    if identity.weights != "only":
        print(f"weights: {identity.weights}, of a file with raw and ema weights (--weights chooses)")
    return model, identity


def announce(path: Path, given: str | None) -> None:
    """Say which base model a run is about to load."""
    if given:
        print(f"base: {path}")
    elif path == runs.find(TOY_CKPT):
        print(f"base: the embedded model ({path}), as there is no Stable Diffusion v1.4 at {SD_CKPT}")
    else:
        print(f"base: Stable Diffusion v1.4 ({path})")
