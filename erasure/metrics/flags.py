"""Flags that the metric scripts share, and what follows from them. Imports no torch."""

import argparse
import sys

from erasure.errors import UserError


def add_network_flags(group) -> None:
    """--device, --allow_random_weights: of a script that runs a network."""
    group.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    add_random_weights(group)


def add_random_weights(group) -> None:
    """--allow_random_weights: of a script whose weights the user brings."""
    group.add_argument(
        "--allow_random_weights", action="store_true", help="to try the script: the numbers mean nothing"
    )


def add_channel_order(group) -> None:
    """--channel_order: of a script that runs NudeNet."""
    group.add_argument(
        "--channel_order", choices=("package", "rgb"), default="package",
        help="how the network is fed: as today's nudenet package does, blue first, or as NudeNet 3.0 did "
        "(default: %(default)s)",
    )  # fmt: skip


def check_batch_size(args: argparse.Namespace) -> None:
    if args.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, not {args.batch_size}")


def note_random_weights(args: argparse.Namespace) -> None:
    """Say it where it is so."""
    if args.allow_random_weights:
        print("note: random weights: these numbers mean nothing", file=sys.stderr)


def load_clip(args: argparse.Namespace, version: str = "base"):
    """The `Clip` that --clip, --device and --allow_random_weights mean. UserError before torch loads if it is not here."""
    from erasure.metrics import clip_model

    weights = None if args.allow_random_weights else clip_model.find_weights(args.clip, version=version)
    from erasure.generation.models import pick_device

    model = clip_model.Clip(weights, args.allow_random_weights, pick_device(args.device), version)
    note_random_weights(args)
    return model
