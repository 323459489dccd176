"""Erase a concept from a model by fine-tuning its UNet against itself (ESD, arXiv 2303.07345).

python methods/esd/train-esd.py --train_method xattn                                    # "Van Gogh", as published
python methods/esd/train-esd.py --prompt 'golf ball' --train_method noxattn             # an object, everywhere
python methods/esd/train-esd.py --prompt 'allartist' --seperator ',' --train_method xattn
python methods/esd/train-esd.py --prompt 'Van Gogh' --train_method xattn --devices '0,1' --resume
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.base_flags import add_trainer_base_flags
from methods.esd import TRAIN_METHODS, command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="TrainESD", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what to erase")
    what.add_argument(
        "--prompt",
        default="Van Gogh",
        help="the concept, or allartist, i2p, artifact for a list (default: %(default)s)",
    )
    what.add_argument(
        "--train_method",
        required=True,
        choices=TRAIN_METHODS,
        help="which weights are trained: xattn (the paper's ESD-x: artists), noxattn (ESD-u: objects, nudity), ...",
    )
    what.add_argument("--seperator", "--separator", help="split the prompt here into several concepts (default: none)")
    what.add_argument("--erase_from", help="a text to erase the concept from, e.g. 'cowboy' for 'cowboy hat'")

    command.add_training_flags(parser)
    add_trainer_base_flags(parser)
    command.add_run_flags(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)

    from methods.esd.settings import EsdSettings

    return command.train(arguments, EsdSettings.for_family)


if __name__ == "__main__":
    errors.run(main)
