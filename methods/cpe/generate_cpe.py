"""Draw the images of a prompt file with gates of CPE, or with the base model alone (arXiv 2506.22806).

python methods/cpe/generate_cpe.py --config configs/gen_celeb/config_celeb_erased.yaml --model_path output/CPE_Celeb/...
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure.generation import distributed  # noqa: E402
from methods.cpe import generation  # noqa: E402


def build_parser():
    return generation.build_parser(generation.CPE)


if __name__ == "__main__":
    distributed.run(lambda: generation.main(generation.CPE))
