"""Erase several concepts with one separable term each, so that any of them can be restored (SepCE, arXiv 2402.05947).

python methods/sepce/SepCE.py --lr 1e-2 --scale_factor 1e-4 --reg_beta 3e-5 --devices '0,1'                 # as published
python methods/sepce/SepCE.py --concepts 'van gogh,picasso,golf ball'                   # the embedded model, its preset
python methods/sepce/SepCE.py --concepts 'Caravaggio' --known 'VanGogh,Cezanne' --exp_name later        # one more
python methods/sepce/SepCE.py --mode separate --protect 'watermark SRS-ME;CCS 2024'     # one term after the other

Lists are divided by ',' or, with one in them, by ';'. What was erased is restored with Merge_model.py --edits NAME --restore.
"""

import argparse
import math
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.errors import UserError
from erasure.training.naming import plain
from methods.sepce import BALANCES, NULL_SPACES, REGULARISERS, bases_command, command

CONCEPTS = "VanGogh,Cezanne,Picasso"


def build_parser() -> argparse.ArgumentParser:
    parser, training = command.build_parser("SepCE", __doc__, concept=False)
    what = parser.add_argument_group("what to erase, and what is to see nothing of it")
    as_list = bases_command.as_list
    what.add_argument("--concepts", type=as_list, default=CONCEPTS, help="erased together (default: %(default)s)")
    what.add_argument(
        "--known", type=as_list, default=[], help="concepts that were erased or restored before (default: none)"
    )
    what.add_argument(
        "--protect", type=as_list, default=[], help="further prompts, watermarks say; the empty one is always protected"
    )
    what.add_argument(
        "--protect_as", type=as_list, metavar="LIST",
        help="wordings in which the other concepts are protected "
        f"(default: {{}}, the bare name; for the embedded model {'; '.join(NULL_SPACES['toy']['protect_as'])})",
    )  # fmt: skip
    null_space = parser.add_argument_group("null space")
    null_space.add_argument("--bases_dir", help="read CONCEPT.safetensors or .pickle here (default: solved on the fly)")
    null_space.add_argument("--max_base", type=int, help="use only the first so many vectors (default: all)")
    bases_command.add_null_space_flags(null_space)
    training.add_argument(
        "--mode", choices=("joint", "separate"), default="joint",
        help="all terms at once, or each concept's alone (default: %(default)s)",
    )  # fmt: skip
    command.add_preset_flag(training, "SepCE", "scale_factor", "beta: length of the basis vectors")
    command.add_term_flags(training, "SepCE")
    training.add_argument(
        "--thresholds", type=numbers, metavar="LIST",
        help="tau of each concept, or one for all; a list that begins with a minus as in --thresholds=-1e-5,0 "
        "(default: published 0,0.00015,0; for other concepts and for the embedded model 0)",
    )  # fmt: skip
    training.add_argument(
        "--reg", choices=REGULARISERS,
        help="what is kept small: coefficients, or the change of weights (default: coef_mean; delta_l1 with separate)",
    )  # fmt: skip
    training.add_argument(
        "--balance", choices=BALANCES,
        help="directions relative to the first concept's, or (paper) to the largest (default: first; no matter when "
        "separate)",
    )  # fmt: skip
    return parser


def numbers(text: str) -> list[float]:
    try:
        values = [float(item) for item in bases_command.as_list(text)]
    except ValueError:
        values = [math.nan]
    if not all(map(math.isfinite, values)):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers such as 0,0.00015,0")
    return values


def concepts(arguments: argparse.Namespace) -> list[str]:
    """--concepts; fills in what depends on them. UserError for a name that is there twice, or protected too, and for what
    else no run could use."""
    names = arguments.concepts
    if not names or len(set(map(plain, names))) < len(names):
        raise UserError(f"--concepts {', '.join(names)!r}: give different names, at least one")
    for other in (*arguments.known, *arguments.protect):
        if other.casefold() in (name.casefold() for name in names):  # which is one prompt to the encoder
            raise UserError(f"{other!r} is to be erased and to see nothing of it: leave it out of one list")
    if arguments.thresholds is None and names != bases_command.as_list(CONCEPTS):
        arguments.thresholds = [0.0]
    if arguments.thresholds is not None and len(arguments.thresholds) not in (1, len(names)):
        raise UserError(
            f"{len(arguments.thresholds)} --thresholds for {len(names)} concepts: give one, or one for each"
        )
    _check_null_space(arguments)
    if arguments.reg is None:
        arguments.reg = "coef_mean" if arguments.mode == "joint" else "delta_l1"
    return names


def _check_null_space(arguments: argparse.Namespace) -> None:
    """UserError for wordings without a place for the name, missing files of bases, and flags that contradict them."""
    for wording in [""] if arguments.protect_as == [] else arguments.protect_as or ():
        if wording.count("{}") != 1 or "{" in wording.replace("{}", "") or "}" in wording.replace("{}", ""):
            raise UserError(f"--protect_as {wording!r}: a wording has one {{}} for the name")
    if not arguments.bases_dir:
        return
    if arguments.basis is not None or arguments.tolerance is not None:
        raise UserError(
            "--bases_dir holds bases that are solved: --basis and --tolerance are generate_bases.py's to take"
        )
    for name in arguments.concepts:
        if not (file := bases_command.file_of(arguments.bases_dir, name)).is_file():
            raise UserError(f"{file}: no such file of bases, nor one of .pickle; generate_bases.py writes them")


def make_objective(model, encode, settings):
    from methods.sepce import sepce_run

    return sepce_run.make_objective(model, encode, settings)


def work(task):
    from methods.sepce import sepce_run

    return sepce_run.work(task)


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv, "SepCE", make_objective, concepts, work)


if __name__ == "__main__":
    errors.run(main)
