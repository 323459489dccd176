"""Solve for the directions that are free to erase each concept with, unseen by the others (SepCE, arXiv 2402.05947).

python methods/sepce/generate_bases.py                                     # VanGogh, Cezanne and Picasso, as published
python methods/sepce/generate_bases.py --concepts 'Monet,Picasso' --protect 'CCS 2024' --mode simultaneous --out bases

Erased simultaneously, a concept is hidden from all others: {concept}.safetensors. Erased one after the other, from those
before it: {concept}2.safetensors. SepCE.py --bases_dir takes the folder; without it, it solves for them itself.
"""

import argparse
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors
from erasure.errors import UserError
from erasure.training.naming import name_part
from methods.sepce import bases_command
from methods.sepce.bases_command import Job, as_list

MODES = ("both", "simultaneous", "iterative")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate_bases.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group(
        "what to erase and what not", "Lists are divided by ',' or, with one in them, by ';'."
    )
    what.add_argument("--concepts", default="VanGogh,Cezanne,Picasso", help="in their order (default: %(default)s)")
    what.add_argument(
        "--protect", default="", help="more prompts that are to see nothing, e.g. watermarks (default: none)"
    )
    what.add_argument(
        "--mode", choices=MODES, default=MODES[0], help="erased simultaneously or one by one (default: %(default)s)"
    )
    what.add_argument("--out", default=".", help="folder of the files (default: the working directory)")
    bases_command.add_flags(parser, device="cuda:0")
    return parser


def jobs_of(concepts: list[str], protect: list[str], mode: str, out: Path) -> list[Job]:
    """One file per concept and way of erasing. UserError for a name that is there twice, or none."""
    names = [name_part(concept) for concept in concepts]
    if not names or len({name.casefold() for name in names}) < len(names):
        raise UserError(f"--concepts {', '.join(concepts)!r}: give different names, at least one")
    jobs = []
    for i, (concept, name) in enumerate(zip(concepts, names, strict=True)):
        if mode != "iterative":
            others = [other for other in concepts if other != concept]
            jobs.append(Job(out / f"{name}.safetensors", concept, others + protect))
        if mode != "simultaneous":
            jobs.append(Job(out / f"{name}2.safetensors", concept, concepts[:i] + protect))
    return jobs


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    jobs = jobs_of(as_list(args.concepts), as_list(args.protect), args.mode, Path(args.out).expanduser())
    return bases_command.run(args, jobs)


if __name__ == "__main__":
    errors.run(main)
