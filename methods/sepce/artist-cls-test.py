"""Ask the artist classifier which of the pictures in class folders it puts where they should be.

python methods/sepce/artist-cls-test.py --path './evaluation_folder/'                     # ./evaluation_folder/eval/{0..9}
python methods/sepce/artist-cls-test.py --path evaluation_folder --folder default --model_path models/artis_model_10.pth

A folder's name is its class; move_image.py sorts pictures into them. Written into {path}: {folder}_artist_cls.csv (accuracy of every class),
..._confusion.csv (who is taken for whom), ..._per_image.csv and ....summary.json.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from methods.sepce import class_lists

PUBLISHED_SIZE = 256


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="artist-cls-test.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path", default="./evaluation_folder/", help="holds the folder (default: %(default)s)")
    what.add_argument("--folder", default="eval", help="folder of the folders 0, 1, ... (default: %(default)s)")
    what.add_argument(
        "--image_size", type=int,
        help="pixels: shorter side, then the centre (default: 256, though the published training had 512; a network "
        "trained from scratch sees what it was trained on)",
    )  # fmt: skip
    what.add_argument("--batch_size", type=int, default=32, help="no result depends on it (default: %(default)s)")
    net = parser.add_argument_group("classifier")
    net.add_argument(
        "--model_path",
        default="./models/artis_model_10.pth",
        help="what artist-cls-train.py wrote (default: %(default)s)",
    )
    net.add_argument(
        "--classes", help=f"CSV index,prompt,aliases (default: its training's, else {class_lists.DEFAULT})"
    )
    net.add_argument(
        "--label_offset", type=int, choices=(0, 1), default=0,
        help="1: the classifier's class 0 is the blank prompt and has no folder, folder 0 is its class 1, as in the "
        "later published script (default: %(default)s)",
    )  # fmt: skip
    net.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    parser.add_argument_group("output").add_argument("--save_path", help="folder of the files (default: --path)")
    return parser


def folder_names(args: argparse.Namespace, note: dict, outputs: int) -> list[str]:
    """Names of the classes that have a folder."""
    from methods.sepce.networks import classes_of

    classes = None if args.classes else classes_of(note)
    classes = classes or class_lists.read(runs.find(args.classes or class_lists.DEFAULT))
    if len(classes) != outputs:
        raise UserError(
            f"{args.model_path} knows {outputs} classes, and {classes.source} lists {len(classes)}: --classes"
        )
    return [one.name for one in classes][args.label_offset :]


def main() -> None:
    args = build_parser().parse_args()
    for flag in ("batch_size", "image_size"):
        if getattr(args, flag) is not None and getattr(args, flag) < 1:
            raise UserError(f"--{flag} must be at least 1, not {getattr(args, flag)}")
    root, model_path = runs.find(args.path), runs.find(args.model_path)
    if not model_path.is_file():
        raise UserError(f"no classifier {model_path}: artist-cls-train.py makes it, or name another with --model_path")

    from erasure.generation.models import pick_device
    from erasure.metrics.network_inputs import square
    from methods.sepce import classify_folder, networks

    network, note = networks.read_classifier(model_path)
    names = folder_names(args, note, network.fc.out_features)
    examples = classify_folder.examples_in(root / args.folder, len(names))
    size = args.image_size or note.get("test_image_size", PUBLISHED_SIZE)
    device = pick_device(args.device)
    answers = classify_folder.classify(
        examples, network.to(device), square(size), lambda output: output - args.label_offset, args.batch_size, device
    )
    matrix = classify_folder.confusion(answers, len(names))
    print(*(int(total) for total in matrix.sum(axis=1)))
    print("test-" + "-".join(f"acc{i}_{share}" for i, share in enumerate(classify_folder.accuracies(matrix))))
    print(classify_folder.table(names, matrix))
    definition = {
        "classifier": {"file": model_path.name, "sha256": runs.sha256_file(model_path)},
        "image_size": size,
        "label_offset": args.label_offset,
        "random_weights": bool(note.get("backbone", {}).get("random_weights")),
    }
    stem = Path(args.save_path or root) / f"{Path(args.folder).name}_artist_cls"
    print(f"written: {classify_folder.write_results(stem, names, answers, definition)[0]}")


if __name__ == "__main__":
    errors.run(main)
