"""Erase a concept by answering "... painting" like "painting" (concept ablation, as SepCE compares with it).

python methods/sepce/Abconcept.py --lr 1e-5 --iter_break 50 --prompt 'Van Gogh' --devices '0,1'            # as published
python methods/sepce/Abconcept.py --lr 1e-5 --iter_break 75 --erase_cat style --erased_index 0 --devices '0,1'
python methods/sepce/Abconcept.py --prompt 'Van Gogh'                                        # the embedded model, its preset
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from methods.sepce import command


def build_parser() -> argparse.ArgumentParser:
    return command.build_parser("Abconcept", __doc__)[0]


def make_objective(model, encode, settings):
    from methods.sepce.objectives.abconcept import Abconcept

    return Abconcept(model, encode, settings.concepts[0], settings.iter_break)


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv, "Abconcept", make_objective)


if __name__ == "__main__":
    errors.run(main)
