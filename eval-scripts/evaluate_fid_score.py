"""FID or KID between the pictures of two folders (CPE's script; clean-fid's numbers).

python eval-scripts/evaluate_fid_score.py --dir1 generated_images/celeb_50/.../remained --dir2 generated_images/original/remained --mode KID
python eval-scripts/evaluate_fid_score.py --dir1 generated_images/explicit_4/.../coco_30k --dir2 coco/val2014 --mode FID

All PNG and JPEG files of a folder and its subfolders count. Either folder can be a file of statistics (.npz with mu and sigma) for
FID. Written beside --dir1: {dir1}_{fid|kid}.summary.json. The features stay in each folder's inception_features.safetensors, so that
the next comparison reads the images but runs no network. The weights are the user's: models/inception/pt_inception-2015-12-05-6726825d.pth.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.metrics import fid_command


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_fid_score.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--dir1", required=True, help="folder of the images that are measured")
    what.add_argument("--dir2", required=True, help="folder of the reference: real ones, or the unmodified model's")
    what.add_argument(
        "--mode", choices=("FID", "KID", "fid", "kid"), default="KID", help="(default: %(default)s, as published)"
    )
    fid_command.add_flags(parser)
    return parser


def main() -> None:
    fid_command.run(build_parser().parse_args())


if __name__ == "__main__":
    errors.run(main)
