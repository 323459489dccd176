"""What the two scripts that write bases share: flags, and a run from prompts to files."""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from erasure import runs
from erasure.base_flags import add_base_flags, load_base
from erasure.training.naming import name_part
from methods.sepce import NULL_SPACES


class Job(NamedTuple):
    """One file of bases."""

    path: Path
    concept: str
    protected: Sequence[str]  # the empty prompt is always one more


def add_flags(parser: argparse.ArgumentParser, device: str) -> None:
    """device: the published default."""
    how = parser.add_argument_group("null space")
    add_null_space_flags(how)
    add_base_flags(parser, device, weights="raw")


def add_null_space_flags(group) -> None:
    """--basis and --tolerance, None where the base's family is to say."""
    sd, toy = NULL_SPACES["sd-v1"], NULL_SPACES["toy"]
    group.add_argument(
        "--basis", choices=("rref", "svd"),
        help="unit vectors of the reduced row echelon form, as published, or orthonormal ones "
        f"(default: {sd['basis']}; {toy['basis']} for the embedded model)",
    )  # fmt: skip
    group.add_argument(
        "--tolerance", type=share,
        help="leave directions unprotected whose singular value is below this share of the largest "
        f"(default: 0, protection is exact; {toy['tolerance']:g} for the embedded model, of 96 dimensions)",
    )  # fmt: skip


def share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share of a singular value: give 0, or less than 1")
    return value


def as_list(text: str) -> list[str]:
    """Items divided by ';' where there is one, else by ','; blanks around them do not count."""
    items = [item.strip() for item in text.split(";" if ";" in text else ",")]
    return [item for item in items if item]


def file_of(folder: str | Path, name: str) -> Path:
    """{name}.safetensors in a folder, or the published {name}.pickle where only that is there."""
    suffixes = (".safetensors", ".pickle")
    files = [runs.find(Path(folder).expanduser() / f"{name_part(name)}{suffix}") for suffix in suffixes]
    return next((file for file in files if file.is_file()), files[0])


def run(args: argparse.Namespace, jobs: Sequence[Job]) -> int:
    """Solve and write the files of `jobs`, each whole or not at all."""
    model, identity = load_base(args)
    defaults = NULL_SPACES[identity.family]
    method = args.basis or defaults["basis"]
    tolerance = defaults["tolerance"] if args.tolerance is None else args.tolerance

    from erasure.generation.next_step import print_written
    from erasure.text_states import TextStates
    from methods.sepce import bases

    texts, encoder = TextStates.of(model), bases.encoder_id(model)
    for job in jobs:
        found = bases.build(texts, job.concept, job.protected, method=method, tolerance=tolerance, encoder=encoder)
        print(found.report())
        bases.save(found, job.path)
    print_written(job.path for job in jobs)
    return 0
