"""LPIPS between the pictures of two models, prompt by prompt: ESD's and UCE's script, and both of SepCE's.

python eval-scripts/lpips_eval.py --original_path images/original --edited_path images/esd --prompts_path data/vangogh_prompts.csv
python eval-scripts/lpips_eval.py --original_path evaluation_folder/default --edited_path evaluation_folder/eval --prompts_path data/evaluate.csv
python eval-scripts/lpips_eval.py --path1 evaluation_folder/default --path2 evaluation_folder/eval

Two flat folders of {case_number}_{k}.png give {edited folder}_lpipsloss.csv: the prompt CSV with a column lpips_loss. Folders of
folders 0, 1, ... (move_image.py) give a mean per class. Either way every pair stays in ..._lpipsloss_per_image.csv, and
..._lpipsloss.summary.json says what was measured. AlexNet's ImageNet weights are the user's: models/torchvision/alexnet-owt-7be5be79.pth.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from erasure.metrics import flags, pair_command

LPIPS = pair_command.Measure("LPIPS", "lpips")
NETS = ("alex", "vgg", "squeeze")
PREPROCESS = {"esd": "lpips_esd", "rece": "lpips_rece", "none": "full_resolution"}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpips_eval.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    pair_command.add_picture_flags(parser)
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
    pair_command.add_output_flags(parser)
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if args.image_size < 1:
        raise UserError(f"--image_size must be at least 1, not {args.image_size}")
    found, classes = pair_command.find_pairs(args)
    from erasure.generation.models import pick_device
    from erasure.metrics import lpips, lpips_folders, network_inputs

    device = pick_device(args.device)
    distance = lpips.Lpips(args.net, args.trunk_weights, args.allow_random_weights, device)
    flags.note_random_weights(args)
    preprocess = getattr(network_inputs, PREPROCESS[args.preprocess])(args.image_size)
    values = lpips_folders.measure(found.pairs, distance, preprocess)
    definition = distance.identity | {"preprocess": args.preprocess, "image_size": args.image_size}
    definition |= {"random_weights": args.allow_random_weights, "versions": runs.versions()}
    pair_command.say(found, values, args, classes, LPIPS)
    print(f"written: {pair_command.write(found, values, args, classes, LPIPS, definition)}")


if __name__ == "__main__":
    errors.run(main)
