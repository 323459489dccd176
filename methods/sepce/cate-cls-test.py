"""Ask ImageNet's ResNet-50 which of the pictures of objects it recognises (SRS-ME's script).

python methods/sepce/cate-cls-test.py                                       # ./evaluation_folder-diff/eval/{0..8}
python methods/sepce/cate-cls-test.py --path evaluation_folder --backbone_weights resnet50-0676ba61.pth --device cuda:0

A folder's name is its class, data/object_classes.csv says which class of ImageNet that is; a picture is right if this is the first of all 1000.
The weights are the user's own file. Written into {path}: {folder}_cate_cls.csv, ..._confusion.csv, ..._per_image.csv and ....summary.json.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from methods.sepce import class_lists


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cate-cls-test.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path", default="./evaluation_folder-diff/", help="holds the folder (default: %(default)s)")
    what.add_argument("--folder", default="eval", help="folder of the folders 0, 1, ... (default: %(default)s)")
    what.add_argument("--batch_size", type=int, default=32, help="no result depends on it (default: %(default)s)")
    net = parser.add_argument_group("classifier")
    net.add_argument(
        "--backbone_weights", help="ImageNet weights of ResNet-50 (default: models/torchvision/resnet50-0676ba61.pth)"
    )
    net.add_argument("--model_path", help="without effect, as published")
    net.add_argument(
        "--classes", default=class_lists.OBJECTS, help="CSV index,prompt,aliases,imagenet_index (default: %(default)s)"
    )
    net.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    net.add_argument(
        "--allow_random_weights",
        action="store_true",
        help="random weights, to try the script: the numbers mean nothing",
    )
    parser.add_argument_group("output").add_argument("--save_path", help="folder of the files (default: --path)")
    return parser


def imagenet_indices(classes: class_lists.ClassList) -> dict[int, int]:
    """ImageNet's number -> ours."""
    found = {}
    for one in classes:
        text = one.extra.get("imagenet_index", "")
        if not text.isdecimal() or int(text) >= 1000:
            raise UserError(f"{classes.source}: class {one.index} has no imagenet_index from 0 to 999, but {text!r}")
        if found.setdefault(int(text), one.index) != one.index:
            raise UserError(f"{classes.source}: imagenet_index {text} is in two classes")
    return found


def main() -> None:
    args = build_parser().parse_args()
    if args.batch_size < 1:
        raise UserError(f"--batch_size must be at least 1, not {args.batch_size}")
    root = runs.find(args.path)
    classes = class_lists.read(runs.find(args.classes))
    ours = imagenet_indices(classes)

    from erasure.generation.models import pick_device
    from erasure.metrics import torchvision_weights
    from erasure.metrics.network_inputs import imagenet
    from methods.sepce import classify_folder

    examples = classify_folder.examples_in(root / args.folder, len(classes))
    network, identity = torchvision_weights.load(
        "resnet50", args.backbone_weights, "--backbone_weights", args.allow_random_weights
    )
    if args.allow_random_weights:
        print("note: random weights: these numbers mean nothing", file=sys.stderr)
    device = pick_device(args.device)
    answers = classify_folder.classify(
        examples, network.to(device), imagenet(), lambda output: ours.get(output, classify_folder.OTHER),
        args.batch_size, device,
    )  # fmt: skip
    names = [one.name for one in classes]
    matrix = classify_folder.confusion(answers, len(names))
    print(*(int(total) for total in matrix.sum(axis=1)))
    print("-".join(f"acc{i}_{share}" for i, share in enumerate(classify_folder.accuracies(matrix), start=1)))
    print(classify_folder.table(names, matrix))
    definition = {"classifier": identity, "random_weights": args.allow_random_weights, "classes": classes.to_list()}
    stem = Path(args.save_path or root) / f"{Path(args.folder).name}_cate_cls"
    print(f"written: {classify_folder.write_results(stem, names, answers, definition)[0]}")


if __name__ == "__main__":
    errors.run(main)
