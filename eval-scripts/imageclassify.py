"""Which of ImageNet's classes pictures show, by ResNet-50 (ESD's, UCE's and RECE's script).

python eval-scripts/imageclassify.py --folder_path images/esd --prompts_path data/imagenette.csv --topk 5
python eval-scripts/imageclassify.py --folder_path images/rece --prompts_path data/imagenette.csv --target_class church --topk 1

Written into the folder: {folder}_classification.csv (the prompt CSV joined with category_top1, index_top1, scores_top1, ...),
..._per_image.csv and ....summary.json. The accuracy of a class is the share of the pictures of its rows (column class) whose first
answer it is. The weights are the user's: models/torchvision/resnet50-11ad3fa6.pth.
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

NETWORK, CLASSES = "resnet50_v2", 1000


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="imageclassify.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--folder_path", required=True, help="folder of {case_number}_{k}.png")
    what.add_argument(
        "--prompts_path", required=True, help="CSV with case_number, and class (or label_idx) for the accuracies"
    )
    what.add_argument("--target_class", help="the erased class: also print RECE's lines")
    what.add_argument(
        "--published_rece_counts",
        action="store_true",
        help="divide as RECE does: by a tenth of all pictures, and the rest",
    )
    how = parser.add_argument_group("classifier")
    how.add_argument("--topk", type=int, default=5, help="answers a picture (default: %(default)s)")
    how.add_argument("--batch_size", type=int, default=250, help="no result depends on it (default: %(default)s)")
    how.add_argument("--weights", help="weights of ResNet-50 (default: models/torchvision/resnet50-11ad3fa6.pth)")
    flags.add_network_flags(how)
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="the CSV (default: {folder_path}/{its name}_classification.csv)")
    out.add_argument("--strict", action="store_true", help="a row without a picture is an error")
    return parser


def check(args: argparse.Namespace):
    """(prompt table, pictures with their cases, cases without). Whatever is wrong is known before the network is loaded."""
    from erasure.metrics import case_csv, image_classes, torchvision_weights

    if not 1 <= args.topk <= CLASSES or args.batch_size < 1:
        raise UserError(f"--topk must be within 1..{CLASSES}, and --batch_size at least 1")
    table = case_csv.read(args.prompts_path)
    pictures = image_classes.pictures(runs.find(args.folder_path), table)
    missing = sorted({*table.cases} - {case for _, case in pictures})
    if missing:
        print(f"note: {len(missing)} rows have no picture, e.g. case {missing[0]}", file=sys.stderr)
        if args.strict:
            raise UserError(f"{len(missing)} rows have no picture (--strict)")
    classes = {name.casefold() for name in table.column("class").values()}
    if args.target_class and args.target_class.casefold() not in classes:
        raise UserError(f"--target_class {args.target_class}: no row of {args.prompts_path} has this class")
    if not args.allow_random_weights:
        torchvision_weights.find_file(NETWORK, args.weights, "--weights")
    return table, pictures, missing


def main() -> None:
    args = build_parser().parse_args()
    table, pictures, missing = check(args)
    from torchvision.models import ResNet50_Weights

    from erasure.generation.models import pick_device
    from erasure.metrics import image_classes, torchvision_weights
    from erasure.metrics.network_inputs import imagenet

    device = pick_device(args.device)
    network, identity = torchvision_weights.load(NETWORK, args.weights, "--weights", args.allow_random_weights)
    flags.note_random_weights(args)
    names = ResNet50_Weights.DEFAULT.meta["categories"]
    files = [path for path, _ in pictures]
    top = image_classes.top_classes(
        files, network.to(device), imagenet(224, 232), args.topk, args.batch_size, device
    )  # fmt: skip
    seen = [image_classes.Classified(path, case, one) for (path, case), one in zip(pictures, top, strict=True)]
    classes = image_classes.asked_for(table, names)

    folder = Path(os.path.abspath(runs.find(args.folder_path)))
    csv_path = Path(args.save_path or folder / f"{folder.name}_classification.csv")
    facts = {"classifier": identity, "random_weights": args.allow_random_weights, "settings": vars(args)}
    facts["versions"] = runs.versions()
    image_classes.write_classification(csv_path, table, seen, names)
    image_classes.write_per_image(csv_path.with_name(csv_path.stem + "_per_image.csv"), seen, classes, names)
    summary = image_classes.summary(seen, classes, names, args.target_class, missing, facts)
    runs.write_json(csv_path.with_name(csv_path.stem + ".summary.json"), summary)
    groups = image_classes.accuracies(seen, classes, names)
    if args.target_class:
        print("\n".join(image_classes.rece_lines(groups, args.target_class, args.published_rece_counts)))
    else:
        for name, share in groups.items():
            print(f"{name}: {share.percent()} of {share.n} images")
    print(f"written: {csv_path}")


if __name__ == "__main__":
    errors.run(main)
