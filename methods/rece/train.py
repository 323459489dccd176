"""Erase nudity or other unsafe concepts with RECE (arXiv 2407.12383).

python methods/rece/train.py --concepts nudity --concept_type nudity --emb_computing close_regzero
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from methods.rece import command  # noqa: E402
from methods.rece.settings import TRAIN as SCRIPT  # noqa: E402

if __name__ == "__main__":
    command.script_main(SCRIPT)
