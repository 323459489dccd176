"""Erase a concept with ESD's trainer under the flags and names that SepCE's repository gave it.

python methods/sepce/Esd.py --prompt 'Van Gogh' --train_method 'xattn' --iterations 1000 --devices '0,1'   # as published
python methods/sepce/Esd.py --erase_cat style --erased_index 1 --iter_break 200 --devices '0,1'
python methods/sepce/Esd.py --prompt 'Van Gogh'                                              # the embedded model, its preset

Published, --train_method was ignored (always xattn), and so was the time up to which a latent was to be denoised, so that
all of them were finished pictures. Here both count: this is ESD, with other defaults.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.base_flags import add_trainer_base_flags
from methods.esd import PRESETS, TRAIN_METHODS
from methods.esd import command as esd_command
from methods.sepce import ESD_PRESETS, command


def _shown(name: str) -> str:
    sd, toy = (f"{(PRESETS[family] | ESD_PRESETS[family])[name]:g}" for family in ("sd-v1", "toy"))
    return f"(default: {sd})" if sd == toy else f"(default: {sd} for Stable Diffusion, {toy} for the embedded model)"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="Esd.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = command.add_concept_flags(parser)
    what.add_argument("--seperator", "--separator", help="split the prompt here into several concepts (default: none)")
    what.add_argument(
        "--train_method",
        default="xattn",
        choices=TRAIN_METHODS,
        help="which weights are trained (default: %(default)s)",
    )
    esd_command.add_training_flags(parser, _shown, ("--iter_break",))
    add_trainer_base_flags(parser)
    esd_command.add_run_flags(parser, _shown, "edit")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    (arguments.prompt,) = command.chosen_concepts(arguments)

    from methods.sepce.esd_settings import EsdBaselineSettings

    return esd_command.train(arguments, EsdBaselineSettings.for_family)


if __name__ == "__main__":
    errors.run(main)
