"""What the two scripts that write bases share: flags, and a run from prompts to files."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from erasure.base_flags import add_base_flags, load_base
from erasure.errors import UserError
from methods.sepce import TOLERANCE


class Job(NamedTuple):
    """One file of bases."""

    path: Path
    concept: str
    protected: Sequence[str]  # the empty prompt is always one more


def add_flags(parser: argparse.ArgumentParser, device: str) -> None:
    """device: the published default."""
    how = parser.add_argument_group("null space")
    how.add_argument(
        "--basis", choices=("rref", "svd"), default="rref",
        help="unit vectors of the reduced row echelon form, as published, or orthonormal ones (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--tolerance", type=float,
        help="leave directions unprotected whose singular value is below this share of the largest "
        f"(default: 0, protection is exact; {TOLERANCE['toy']:g} for the embedded model, whose conditioning has 96 dimensions only)",
    )  # fmt: skip
    add_base_flags(parser, device, weights="raw")


def as_list(text: str) -> list[str]:
    """Items divided by ';' where there is one, else by ','; blanks around them do not count."""
    items = [item.strip() for item in text.split(";" if ";" in text else ",")]
    return [item for item in items if item]


def run(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    """Solve and write the files of `jobs`, each whole or not at all."""
    if args.tolerance is not None and not 0 <= args.tolerance < 1:
        raise UserError(f"--tolerance {args.tolerance:g} is no share of a singular value: give 0, or less than 1")
    model, identity = load_base(args)
    tolerance = TOLERANCE[identity.family] if args.tolerance is None else args.tolerance

    from erasure.generation.next_step import print_written
    from erasure.text_states import TextStates
    from methods.sepce import bases

    texts, encoder = TextStates.of(model), bases.encoder_id(model)
    for job in jobs:
        found = bases.build(texts, job.concept, job.protected, method=args.basis, tolerance=tolerance, encoder=encoder)
        print(found.report())
        bases.save(found, job.path)
    print_written(job.path for job in jobs)
    return 0
