"""FID of every class between the pictures of two models (SepCE's script; pytorch-fid's numbers).

python eval-scripts/FID_eval.py --path1 evaluation_folder/default --path2 evaluation_folder/eval

Folders 0, 1, ... of --path2 (move_image.py sorts pictures into them) are compared with those of --path1; a file {class}.npz of
statistics (mu and sigma) can stand in for a folder. Prints a line a class. Written beside --path2: {path2}_fid_classes.csv and
....summary.json. The weights are the user's: models/inception/pt_inception-2015-12-05-6726825d.pth.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.metrics import flags

DIMENSIONS = 2048


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="FID_eval.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path1", required=True, help="folder of the base model's folders 0, 1, ...")
    what.add_argument("--path2", required=True, help="folder of the edited model's")
    what.add_argument(
        "--drop_last", action="store_true",
        help="leave out the images of an incomplete last batch, as the published script did",
    )  # fmt: skip
    how = parser.add_argument_group("features")
    how.add_argument(
        "--batch-size", "--batch_size", dest="batch_size", type=int, default=15,
        help="images at once; matters with --drop_last only (default: %(default)s, as published)",
    )  # fmt: skip
    how.add_argument("--dims", type=int, choices=(DIMENSIONS,), default=DIMENSIONS, help="(default: %(default)s)")
    how.add_argument(
        "--preprocess", choices=("pytorch-fid", "clean"), default="pytorch-fid",
        help="bilinear without antialiasing, as published, or as evaluate_fid_score.py does (default: %(default)s)",
    )  # fmt: skip
    how.add_argument(
        "--inception_weights", help="file of tensors (default: models/inception/pt_inception-2015-12-05-6726825d.pth)"
    )
    how.add_argument("-c", "--gpu", help="number of a GPU; accepted as published, --device says more")
    flags.add_network_flags(how)
    parser.add_argument_group("output").add_argument(
        "--save_path", help="folder of the files (default: beside --path2)"
    )
    return parser


def main() -> None:
    args = build_parser().parse_args()
    flags.check_batch_size(args)
    from erasure.metrics import fid_classes
    from erasure.metrics.inception_weights import find_file

    pairs = fid_classes.pairs_of(runs.find(args.path1), runs.find(args.path2))
    if not args.allow_random_weights:
        find_file(args.inception_weights)
    flags.note_random_weights(args)
    from erasure.generation.models import pick_device
    from erasure.metrics.inception import Inception

    device = pick_device(args.device or (f"cuda:{args.gpu}" if (args.gpu or "").isdigit() else args.gpu))
    network = Inception(args.inception_weights, args.allow_random_weights, device, args.preprocess)
    found = {}
    for number, (original, edited) in pairs.items():
        found[number] = fid_classes.measure(original, edited, network, args.batch_size, args.drop_last)
        print(f"FID: {number} {found[number].value}", flush=True)
    edited = Path(os.path.abspath(runs.find(args.path2)))
    stem = Path(args.save_path or edited.parent) / f"{edited.name}_fid_classes"
    facts = {"features": network.identity, "drop_last": args.drop_last, "random_weights": args.allow_random_weights}
    facts |= {"settings": vars(args), "versions": runs.versions()}
    fid_classes.write_files(stem, found, facts)
    print(f"written: {stem}.csv")


if __name__ == "__main__":
    errors.run(main)
