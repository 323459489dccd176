"""Draw the images of I2P with gates of CPE, or with the base model alone (arXiv 2506.22806).

python methods/cpe/generate_cpe_explicit.py --config configs/gen_explicit/config_explicit_erased.yaml --model_path ...
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure.generation import distributed  # noqa: E402
from methods.cpe import generation  # noqa: E402


def build_parser():
    return generation.build_parser(generation.EXPLICIT)


if __name__ == "__main__":
    distributed.run(lambda: generation.main(generation.EXPLICIT))
