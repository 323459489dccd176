"""Erase objects with RECE (arXiv 2407.12383).

python methods/rece/train_object.py --concepts Church --concept_type object
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from methods.rece import command  # noqa: E402
from methods.rece.settings import OBJECTS as SCRIPT  # noqa: E402

if __name__ == "__main__":
    command.script_main(SCRIPT)
