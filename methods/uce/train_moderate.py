"""Erase unsafe concepts from a model in closed form: train_erase.py with another default type (UCE, arXiv 2308.14761).

python methods/uce/train_moderate.py --concepts 'violence, nudity, harm' --concept_type 'unsafe'
python methods/uce/train_moderate.py --concepts i2g
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors
from methods.uce import command


def build_parser():
    return command.build_parser("train_moderate.py", __doc__, concept_type="unsafe")


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv)


if __name__ == "__main__":
    errors.run(main)
