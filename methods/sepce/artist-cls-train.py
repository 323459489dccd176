"""Train the classifier that says which artist a picture is by.

python methods/sepce/artist-cls-train.py                                      # ./data/train/{0..9}, ./data/eval/{0..9} -> ./models/
python methods/sepce/artist-cls-train.py --path toy-data --model_path toy-models
python methods/sepce/artist-cls-train.py --backbone_weights resnet18-f37072fd.pth --device cuda:0 --resume

make_dataset.py lays the pictures out. As published, ResNet-18 keeps its ImageNet weights and learns a new last layer; its weights are the
user's own file. Pictures of the embedded model (up to 128 pixels) get a small network instead, trained from scratch.
The best of all epochs is {model_path}/artis_model_10.pth, tensors only, and artis_model_10.json says how it was made.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from methods.sepce import class_lists

SMALL_PICTURES = 128  # pixels: the embedded model's
DEFAULTS = {False: dict(lr_max=0.01, image_size=512), True: dict(lr_max=0.1)}  # published; from scratch
SETTINGS = (
    "batch_size", "epochs", "lr_schedule", "lr_min", "lr_max", "weight_decay", "momentum", "image_size", "seed",
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="artist-cls-train.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path", default="./data/", help="holds train/{0..9} and eval/{0..9} (default: %(default)s)")
    what.add_argument(
        "--classes", help=f"CSV index,prompt,aliases (default: classes.csv there, else {class_lists.DEFAULT})"
    )
    what.add_argument(
        "--image_size", type=int,
        help="pixels: shorter side, then the centre (default: 512; from scratch that of the pictures)",
    )  # fmt: skip
    what.add_argument(
        "--workers", type=int, help="processes that read pictures (default: up to 8, one less than cores)"
    )
    what.add_argument("--normal_mean", type=float, default=0, help="without effect, as published")
    what.add_argument("--normal_std", type=float, default=1, help="without effect, as published")

    net = parser.add_argument_group("network")
    net.add_argument(
        "--backbone_weights", help="ImageNet weights of ResNet-18 (default: models/torchvision/resnet18-f37072fd.pth)"
    )
    net.add_argument(
        "--from_scratch", nargs="?", const="small", choices=("small", "resnet18"),
        help="train all of a network from random weights (default: small for pictures of up to 128 pixels if "
        "--backbone_weights is not given)",
    )  # fmt: skip
    net.add_argument(
        "--allow_random_weights", action="store_true", help="a frozen random trunk, to try the script without the file"
    )

    how = parser.add_argument_group("training")
    how.add_argument("--batch_size", type=int, default=30, help="(default: %(default)s)")
    how.add_argument("--epochs", type=int, default=20, help="(default: %(default)s)")
    how.add_argument(
        "--lr_schedule", choices=("cyclic", "multistep"), default="cyclic",
        help="cyclic: up to lr-max and down again; momentum goes from 0.9 to 0.8 and back (default: %(default)s)",
    )  # fmt: skip
    how.add_argument("--lr-min", type=float, default=0.0, help="(default: %(default)s)")
    how.add_argument("--lr-max", type=float, help="(default: 0.01, from scratch 0.1)")
    how.add_argument("--weight-decay", type=float, default=5e-4, help="(default: %(default)s)")
    how.add_argument("--momentum", type=float, default=0.9, help="of multistep (default: %(default)s)")
    how.add_argument("--seed", type=int, default=0, help="of weights and order (default: %(default)s)")
    how.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")

    out = parser.add_argument_group("output")
    out.add_argument("--model_path", help="folder (default: ./models/, here or in the repository)")
    again = out.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed training stopped")
    again.add_argument("--force", action="store_true", help="train again, in place of what is there")
    return parser


def choose_network(args: argparse.Namespace, path: Path) -> tuple[str, bool, int]:
    """(architecture, whether all of it is trained, shorter side of the pictures), from the flags and the first picture."""
    from erasure.metrics.network_inputs import read_image
    from methods.sepce.classify_folder import examples_in

    if args.from_scratch and (args.backbone_weights or args.allow_random_weights):
        raise UserError("--from_scratch is without --backbone_weights and --allow_random_weights")
    side = min(read_image(examples_in(path / "train", len(read_classes(args, path)))[0].path).size)
    scratch = args.from_scratch
    if not scratch and side <= SMALL_PICTURES and not args.backbone_weights and not args.allow_random_weights:
        scratch = "small"
        print(f"pictures of {side} pixels, as the embedded model draws: --from_scratch small")
    return scratch or "resnet18", bool(scratch), side


def read_classes(args: argparse.Namespace, path: Path) -> class_lists.ClassList:
    beside = path / "classes.csv"
    return class_lists.read(runs.find(args.classes or (beside if beside.is_file() else class_lists.DEFAULT)))


def main() -> int:
    args = build_parser().parse_args()
    if args.workers is not None and args.workers < 0:
        raise UserError(f"--workers must not be negative, as {args.workers} is")
    path = runs.find(args.path)
    classes = read_classes(args, path)

    import torch

    from erasure.generation.models import pick_device
    from erasure.metrics import torchvision_weights
    from methods.sepce import classify_folder, networks
    from methods.sepce.classifier import TrainingSettings
    from methods.sepce.classifier_run import ClassifierRun

    architecture, scratch, side = choose_network(args, path)
    given = {name: getattr(args, name) for name in SETTINGS if getattr(args, name) is not None}
    settings = TrainingSettings(architecture, scratch, **{"image_size": side} | DEFAULTS[scratch] | given)
    trunk, backbone = None, {}
    if not scratch:
        trunk, backbone = torchvision_weights.load(
            "resnet18", args.backbone_weights, "--backbone_weights", args.allow_random_weights
        )
    run = ClassifierRun(path, Path(args.model_path or runs.find("models")), classes, settings, backbone)
    counts = {f"{name} pictures": len(examples) for name, examples in run.examples.items()}
    device = pick_device(args.device)
    runs.print_settings(
        settings.to_dict() | counts | {"classes": len(classes), "device": device, "file": run.model_file}
    )
    start = run.open(args.resume, args.force)
    if isinstance(start, dict):
        print(f"{run.model_file} is there already, with these settings: accuracy {start['accuracy']:.4f}")
        return 0

    def network():
        torch.manual_seed(settings.seed)
        return networks.with_new_head(trunk, len(classes)) if trunk else networks.build(architecture, len(classes))

    workers = min(8, (os.cpu_count() or 1) - 1) if args.workers is None else args.workers
    try:
        note = run.train(network, start, device, workers)
    except KeyboardInterrupt:
        return errors.stopped(run.resume_file.is_file())
    import numpy as np

    confusion = np.array(note["confusion"])
    print(classify_folder.table([one.name for one in classes], confusion))
    print(f"accuracy {note['accuracy']:.4f} on {confusion.sum()} held-out pictures, epoch {note['epoch']}")
    print(f"written: {run.model_file}, {run.note_file}")
    return 0


if __name__ == "__main__":
    errors.run(main)
