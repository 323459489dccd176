"""Erase a concept by making what it adds to the prediction uncorrelated with what it added (CiE; the paper's SRS-ME‡).

python methods/sepce/CiE.py --threshold 0 --lr 1e-6 --reg_beta 3e-5 --prompt 'Van Gogh' --devices '0,1'    # as published
python methods/sepce/CiE.py --prompt 'Van Gogh' --threshold 0                                # the embedded model, its preset
python methods/sepce/CiE.py --erase_cat nudity --erased_index 0 --threshold 0 --lr 1e-5 --resume
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from methods.sepce import command


def build_parser() -> argparse.ArgumentParser:
    parser, training = command.build_parser("CiE", __doc__)
    command.add_preset_flag(training, "CiE", "threshold", "training ends when the running average is below it")
    command.add_preset_flag(training, "CiE", "reg_beta", "weight of the change of the weights in the loss")
    training.add_argument(
        "--momentum",
        type=float,
        default=0.9,
        help="of the running average: its share of the old (default: %(default)g)",
    )
    training.add_argument(
        "--min_iter", type=int, default=11, help="at least so many steps and one are made (default: %(default)s)"
    )
    training.add_argument("--seperator", help="accepted and not used, as published")
    return parser


def make_objective(model, encode, settings):
    from methods.sepce.objectives.cie import CiE

    return CiE(
        model, encode, settings.concepts[0], settings["reg_beta"], settings["threshold"], settings.iter_break,
        settings["momentum"], settings["min_iter"],
    )  # fmt: skip


def say_how_it_ended(run) -> None:
    if not run.edit.settings["stopped"]:
        average, threshold = run.edit.settings["momentum_value"], run.settings["threshold"]
        print(f"note: the running average ended at {average:.3g} and never was below the threshold, {threshold:g}")


def work(task):
    return command.train_once(task, say_how_it_ended)


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv, "CiE", make_objective, work=work)


if __name__ == "__main__":
    errors.run(main)
