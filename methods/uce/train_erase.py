"""Erase concepts from a model in closed form, without training (UCE, arXiv 2308.14761).

python methods/uce/train_erase.py --concepts 'Kelly Mckernan, Sarah Anderson' --guided_concept 'art' --concept_type 'art'
python methods/uce/train_erase.py --concepts 'golf ball' --concept_type object --add_prompts
python methods/uce/train_erase.py --concepts 10artists --guided_concepts art --concept_type art --sequential
python methods/uce/train_erase.py --variant 2025 --edit_concepts 'Van Gogh; Picasso' --guide_concepts 'art' \\
    --concept_type art --exp_name artists --save_format safetensors
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors
from methods.uce import command


def build_parser():
    return command.build_parser("train_erase.py", __doc__)


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv)


if __name__ == "__main__":
    errors.run(main)
