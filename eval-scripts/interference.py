"""Do saved edits get in each other's way? Each alone, all together, all but one: erasure, preservation, ways back, cost.

python eval-scripts/interference.py --edits models/erased-a models/erased-b models/erased-c --save_path outputs/uce
python eval-scripts/interference.py --edits models/a models/b --edits output/CPE_Celeb/celeb_embedded/* --save_path outputs/two

An edit is a file, a run folder or name, or gates or a folder of them; one of several separable concepts counts as several.
Written to --save_path: report.html, report.png, matrix.csv (a row a cell), report.json, settings.json, and the pictures, which a
second run keeps. Kinds that cannot stand side by side are united (gates, separable parts); changes of the same weights add up.
"""

import argparse
import functools
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.base_flags import add_base_flags
from erasure.generation.presets import SAMPLERS
from toyworld.prompts import add_counts, check_counts


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="interference.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("edits and prompts")
    what.add_argument(
        "--edits", nargs="+", action="append", required=True, metavar="PATH",
        help="edits that are applied together; given again, another group, which is compared with the first",
    )  # fmt: skip
    what.add_argument(
        "--prompts_path",
        help="CSV with the columns concept_kind and concept (default: the embedded world's, for what the edits erase)",
    )
    add_counts(what, unless=", without --prompts_path")
    what.add_argument(
        "--judge", metavar="NAME",
        help="embedded (the default on the embedded model), or PACKAGE.MODULE:FUNCTION that returns (judge, identity): "
        "judge(images uint8 [N, H, W, 3]) gives a list of dicts with style and subject",
    )  # fmt: skip
    what.add_argument("--force", action="store_true", help="use edits on another base than they were made for")
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", required=True, help="folder of the report and the pictures")
    add_base_flags(parser, device="the first GPU")
    how = parser.add_argument_group(
        "pictures", "Defaults: dpm, 8 steps, guidance 2.5 on the embedded model; else ESD's."
    )
    how.add_argument("--sampler", choices=SAMPLERS)
    how.add_argument("--steps", type=int)
    how.add_argument("--guidance", type=float)
    how.add_argument("--image_size", type=int, help="pixels a side (default: the model's)")
    how.add_argument("--batch_size", type=int, help="pictures drawn at once (default: by their size)")
    return parser


def main() -> int:
    parser = build_parser()
    args = parser.parse_args()
    check_counts(parser, args)
    from erasure.interference.command import run
    from toyworld.interference_judge import embedded_judge

    return run(args, functools.partial(embedded_judge, args.pictures, args.others))


if __name__ == "__main__":
    errors.run(main)
