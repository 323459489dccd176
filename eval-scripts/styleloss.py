"""Style and content loss between the pictures of two models, prompt by prompt (ESD's and UCE's script).

python eval-scripts/styleloss.py --original_path images/original --edited_path images/esd --promtps_path data/vangogh_prompts.csv
python eval-scripts/styleloss.py --image --original_path images/original/12_0.png --edited_path images/esd/12_0.png

Written beside the edited folder: {edited folder}_styleloss.csv (the prompt CSV with style_loss, content_loss, total_loss),
..._per_image.csv and ....summary.json. Published, a CPU measured pictures of 128 pixels and a GPU of 512, which give other numbers.
VGG-19's ImageNet weights are the user's: models/torchvision/vgg19-dcbb9e9d.pth.
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


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="styleloss.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--original_path", required=True, help="folder of the base model's, or one of them with --image")
    what.add_argument("--edited_path", required=True, help="folder of the edited model's, or one of them with --image")
    what.add_argument("--promtps_path", "--prompts_path", "--csv_path", dest="prompts", help="CSV with case_number")
    what.add_argument("--image", action="store_true", help="the two paths are single pictures")
    how = parser.add_argument_group("loss")
    how.add_argument("--imsize", type=int, default=512, help="pixels of the shorter side (default: %(default)s)")
    how.add_argument("--weights", help="weights of VGG-19 (default: models/torchvision/vgg19-dcbb9e9d.pth)")
    how.add_argument("--batch_size", type=int, default=4, help="pairs at once (default: %(default)s)")
    flags.add_network_flags(how)
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the files (default: beside the edited folder or picture)")
    out.add_argument("--strict", action="store_true", help="a picture without a partner is an error")
    return parser


def find_pairs(args: argparse.Namespace):
    from erasure.metrics import lpips_folders, torchvision_weights
    from erasure.prompts import read_csv

    if args.imsize < 16 or args.batch_size < 1:
        raise UserError("--imsize must be at least 16, and --batch_size at least 1")
    original, edited = runs.find(args.original_path), runs.find(args.edited_path)
    if args.image:
        if absent := [path for path in (original, edited) if not path.is_file()]:
            raise UserError(f"--image: no picture {absent[0]}")
        found = lpips_folders.Pairs([0], [lpips_folders.Pair(0, original, edited)])
    elif not args.prompts:
        raise UserError("--promtps_path is missing: which of the pictures, and in which order")
    else:
        cases = [row.case_number for row in read_csv(args.prompts, default_seed=0)]
        found = lpips_folders.by_case(original, edited, cases)
    if not args.allow_random_weights:
        torchvision_weights.find_file("vgg19", args.weights, "--weights")
    return found


def write(found, values: list[list[float]], args: argparse.Namespace, facts: dict) -> Path:
    """The files of a run; returns the main one."""
    from erasure.metrics import lpips_folders
    from erasure.metrics.style_loss import COLUMNS

    edited = Path(os.path.abspath(runs.find(args.edited_path)))
    stem = Path(args.save_path or edited.parent) / f"{edited.stem if args.image else edited.name}_styleloss"
    csv_path = stem.with_name(stem.name + ".csv")
    by_column = list(zip(*values, strict=True))
    if args.image:
        style, content, total = map(repr, values[0])
        header = ["", "filename", "Style_Loss", "Content_Loss", "Total_Loss"]
        runs.write_csv(csv_path, [header, [0, edited.name, style, content, total]])
    else:
        means = [lpips_folders.means(found, column) for column in by_column]
        lpips_folders.write_case_columns(args.prompts, dict(zip(COLUMNS, means, strict=True)), csv_path)
        per_image = stem.with_name(stem.name + "_per_image.csv")
        lpips_folders.write_pair_csv(found, values, "case_number", per_image, COLUMNS)
    summary = lpips_folders.summary(found, by_column[2], facts, "style_loss")
    summary["mean"] = {name: sum(column) / len(column) for name, column in zip(COLUMNS, by_column, strict=True)}
    runs.write_json(stem.with_name(stem.name + ".summary.json"), summary)
    return csv_path


def main() -> None:
    args = build_parser().parse_args()
    found = find_pairs(args)
    if found.missing:
        print(f"note: {len(found.missing)} pictures have no partner, e.g. {found.missing[0]}", file=sys.stderr)
        if args.strict:
            raise UserError(f"{len(found.missing)} pictures have no partner (--strict)")
    from erasure.generation.models import pick_device
    from erasure.metrics import lpips_folders, style_loss, torchvision_weights

    device = pick_device(args.device)
    network, identity = torchvision_weights.load("vgg19", args.weights, "--weights", args.allow_random_weights)
    flags.note_random_weights(args)
    loss = style_loss.StyleLoss(network.features, device)
    values = lpips_folders.measure(
        found.pairs, loss, style_loss.preprocess(args.imsize), batch_size=args.batch_size, name="style loss"
    )
    facts = {"network": identity, "random_weights": args.allow_random_weights, "settings": vars(args)}
    path = write(found, values, args, facts | {"versions": runs.versions()})
    style, content, total = (sum(column) / len(column) for column in zip(*values, strict=True))
    print(f"style loss {style:.6g}, content loss {content:.6g}, total {total:.6g}, mean of {len(values)} pairs")
    print(f"written: {path}")


if __name__ == "__main__":
    errors.run(main)
