"""FID between the pictures of two folders (RECE's script; clean-fid's numbers).

python eval-scripts/fid_score.py --f1 images/rece/coco --f2 coco/val2014

The same as evaluate_fid_score.py, with other names of the folders and FID by default. Written beside --f1: {f1}_fid.summary.json. The
weights are the user's: models/inception/pt_inception-2015-12-05-6726825d.pth.
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
        prog="fid_score.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--f1", dest="dir1", required=True, help="folder of the images that are measured")
    what.add_argument(
        "--f2", dest="dir2", required=True, help="folder of the reference: real ones, or the unmodified model's"
    )
    what.add_argument(
        "--mode", choices=("FID", "KID", "fid", "kid"), default="FID", help="(default: %(default)s, as published)"
    )
    fid_command.add_flags(parser)
    return parser


def main() -> None:
    fid_command.run(build_parser().parse_args())


if __name__ == "__main__":
    errors.run(main)
