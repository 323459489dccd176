"""LPIPS between the pictures of two models, prompt by prompt: ESD's and UCE's script, and both of SepCE's.

python eval-scripts/lpips_eval.py --original_path images/original --edited_path images/esd --prompts_path data/vangogh_prompts.csv
python eval-scripts/lpips_eval.py --original_path evaluation_folder/default --edited_path evaluation_folder/eval --prompts_path data/evaluate.csv
python eval-scripts/lpips_eval.py --path1 evaluation_folder/default --path2 evaluation_folder/eval

Two flat folders of {case_number}_{k}.png give {edited folder}_lpipsloss.csv: the prompt CSV with a column lpips_loss. Folders of
folders 0, 1, ... (move_image.py) give a mean per class. Either way every pair stays in ..._lpipsloss_per_image.csv, and
..._lpipsloss.summary.json says what was measured. AlexNet's ImageNet weights are the user's: models/torchvision/alexnet-owt-7be5be79.pth.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from erasure.metrics import flags

NETS = ("alex", "vgg", "squeeze")
PREPROCESS = {"esd": "lpips_esd", "rece": "lpips_rece", "none": "full_resolution"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpips_eval.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--original_path", "--path1", dest="original", required=True, help="folder of the base model's")
    what.add_argument("--edited_path", "--path2", dest="edited", required=True, help="folder of the edited model's")
    what.add_argument(
        "--prompts_path", "--csv_path", dest="prompts",
        help="CSV with case_number; needed for flat folders, leaves out other cases of folders of classes",
    )  # fmt: skip
    what.add_argument("--image", help="compare only the pictures of this name, e.g. 12_0.png")
    how = parser.add_argument_group("distance")
    how.add_argument("--net", choices=NETS, default="alex", help="trunk (default: %(default)s, as published)")
    how.add_argument("--trunk_weights", help="its ImageNet weights (default: models/torchvision/{torchvision's name})")
    how.add_argument(
        "--preprocess", choices=PREPROCESS, default="esd",
        help="esd: shorter side to --image_size, antialiased; rece: a square, not antialiased; none: full resolution "
        "(default: %(default)s). They give different numbers.",
    )  # fmt: skip
    how.add_argument("--image_size", type=int, default=64, help="pixels (default: %(default)s, as published)")
    how.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    how.add_argument(
        "--allow_random_weights",
        action="store_true",
        help="a random trunk, to try the script: the numbers mean nothing",
    )
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the files (default: beside the edited folder)")
    out.add_argument("--strict", action="store_true", help="a picture without a partner is an error")
    return parser


def find_pairs(args: argparse.Namespace):
    """(pairs, whether the folders are of classes)."""
    from erasure.metrics import lpips_folders
    from erasure.prompts import read_csv

    original, edited = runs.find(args.original), runs.find(args.edited)
    cases = [row.case_number for row in read_csv(args.prompts, default_seed=0)] if args.prompts else None
    if lpips_folders.has_classes(original):
        if args.image:
            raise UserError("--image is for flat folders; these are folders of classes")
        return lpips_folders.by_class(original, edited, cases), True
    if cases is None:
        if not args.image:
            raise UserError("--prompts_path is missing: which of the pictures, and in which order")
        cases = [_case_of(args.image)]
    return lpips_folders.by_case(original, edited, cases, args.image or ""), False


def _case_of(name: str) -> int:
    from erasure.metrics.image_folders import case_of

    if (case := case_of(name)) is None:
        raise UserError(f"--image {name}: not the name of a picture, as in 12_0.png")
    return case


def say(found, values, args: argparse.Namespace, classes: bool) -> None:
    """The published lines of SepCE's scripts; a line for ESD's, which said nothing."""
    from erasure.metrics.lpips_folders import means

    if args.image:
        print(f"{args.image}: {values[0]}")
    elif classes:
        prefix = f"{args.prompts}-" if args.prompts else ""
        for number, mean in means(found, values).items():
            print(f"{prefix}{number}: {mean}")
    print(f"LPIPS {sum(values) / len(values):.4f}, mean of {len(values)} pairs")


def write(found, values, args: argparse.Namespace, classes: bool, definition: dict) -> Path:
    """The files of a run; returns the main one."""
    from erasure.metrics import lpips_folders

    edited = Path(os.path.abspath(runs.find(args.edited)))
    stem = Path(args.save_path or edited.parent) / f"{edited.name}_lpipsloss"
    csv_path = stem.with_name(stem.name + ".csv")
    if classes:
        lpips_folders.write_class_csv(found, values, csv_path)
    elif args.prompts:
        lpips_folders.write_case_csv(args.prompts, lpips_folders.means(found, values), csv_path)
    per_image = stem.with_name(stem.name + "_per_image.csv")
    lpips_folders.write_pair_csv(found, values, "class" if classes else "case_number", per_image)
    runs.write_json(stem.with_name(stem.name + ".summary.json"), lpips_folders.summary(found, values, definition))
    return csv_path if classes or args.prompts else per_image


def main() -> None:
    args = build_parser().parse_args()
    if args.image_size < 1:
        raise UserError(f"--image_size must be at least 1, not {args.image_size}")
    found, classes = find_pairs(args)
    if found.missing:
        print(f"note: {len(found.missing)} pictures have no partner, e.g. {found.missing[0]}", file=sys.stderr)
        if args.strict:
            raise UserError(f"{len(found.missing)} pictures have no partner (--strict)")
    from erasure.generation.models import pick_device
    from erasure.metrics import lpips, lpips_folders, network_inputs

    device = pick_device(args.device)
    distance = lpips.Lpips(args.net, args.trunk_weights, args.allow_random_weights, device)
    flags.note_random_weights(args)
    preprocess = getattr(network_inputs, PREPROCESS[args.preprocess])(args.image_size)
    values = lpips_folders.measure(found.pairs, distance, preprocess)
    definition = distance.identity | {"preprocess": args.preprocess, "image_size": args.image_size}
    definition |= {"random_weights": args.allow_random_weights, "versions": runs.versions()}
    say(found, values, args, classes)
    print(f"written: {write(found, values, args, classes, definition)}")


if __name__ == "__main__":
    errors.run(main)
