"""Solve for the directions that are free to erase one concept with, for SRS_ME.py (published: train-scripts/SRSME_Solution.py).

python methods/sepce/SRSME_Solution.py --erase_cat style --erased_index 0 --em_indexes '1,2' --scenei 1 --timei 0

Concept --erased_index is to be erased unseen by those of --em_indexes (9 and 10 are the watermark prompts), in scene S at
time T: scene/scene{S}/{T}/{index}.safetensors.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors
from erasure.errors import UserError
from methods.sepce import bases_command, concept_list, concept_of
from methods.sepce.bases_command import Job, as_list

CATEGORIES = ("object", "style", "similar")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="SRSME_Solution.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to erase and what not")
    what.add_argument(
        "--erase_cat", choices=CATEGORIES, default="object", help="list of concepts (default: %(default)s)"
    )
    what.add_argument("--erased_index", type=int, required=True, help="the concept's place in it, from 0 on")
    what.add_argument(
        "--em_indexes", required=True, help="those that are to see nothing, as in 1,2; '' for the empty prompt only"
    )
    what.add_argument("--scenei", type=_number, required=True, metavar="S", help="number of the scene")
    what.add_argument("--timei", type=_number, required=True, metavar="T", help="time in it")
    what.add_argument("--out", default=".", help="folder of scene/ (default: the working directory)")
    bases_command.add_flags(parser, device="0")
    return parser


def _number(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 on")
    return int(text)


def job_of(category: str, erased: int, em_indexes: str, out: Path) -> Job:
    """UserError for an index that the list does not have, or the concept's own."""
    known, concept = concept_list(category, watermarks=True), concept_of(category, erased)
    protected = []
    for item in as_list(em_indexes):
        if not item.isdecimal() or int(item) >= len(known) or int(item) == erased:
            names = ", ".join(f"{i} {name}" for i, name in enumerate(known) if i != erased)
            raise UserError(f"--em_indexes {em_indexes}: {item!r} is none of {names}")
        protected.append(known[int(item)])
    return Job(out / f"{erased}.safetensors", concept, protected)


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    folder = Path(args.out).expanduser() / "scene" / f"scene{args.scenei}" / str(args.timei)
    return bases_command.run(args, [job_of(args.erase_cat, args.erased_index, args.em_indexes, folder)])


if __name__ == "__main__":
    errors.run(main)
