"""Erase a concept by taking away what it does to the attention logits of "a painting of ..." (FMN, as SepCE compares with it).

python methods/sepce/FMN.py --lr 1e-5 --iter_break 10 --prompt 'Van Gogh' --devices '0,1'                  # as published
python methods/sepce/FMN.py --lr 1e-5 --iter_break 50 --erase_cat object --erased_index 1 --devices '0,1'
python methods/sepce/FMN.py --prompt 'Van Gogh'                                              # the embedded model, its preset
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from methods.sepce import command


def build_parser() -> argparse.ArgumentParser:
    return command.build_parser("FMN", __doc__)[0]


def make_objective(model, encode, settings):
    from methods.sepce.objectives.fmn import FMN

    return FMN(model, encode, settings.concepts[0], settings.iter_break)


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv, "FMN", make_objective)


if __name__ == "__main__":
    errors.run(main)
