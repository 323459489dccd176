"""LPIPS between the pictures of one name in two folders (RECE's script, which resizes otherwise than lpips_eval.py).

python eval-scripts/lpips_score.py -d0 images/sd14 -d1 images/rece
python eval-scripts/lpips_score.py -d0 images/sd14 -d1 images/rece --filter data/vangogh_prompts.csv

Pictures become 64 x 64 by OpenCV, without antialiasing. Written into -d1: lpips_against_{sd14|real}.txt (a line a picture, then
"avg:"), ..._per_image.csv and ....summary.json; real if the name of -d0 has "real" in it. AlexNet's ImageNet weights are the user's:
models/torchvision/alexnet-owt-7be5be79.pth.
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


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lpips_score.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("-d0", "--dir0", required=True, help="folder of the base model's, or of real ones")
    what.add_argument("-d1", "--dir1", required=True, help="folder of the edited model's")
    what.add_argument("--filter", help="only some: a CSV with case_number, or a text that the names must hold")
    how = parser.add_argument_group("distance")
    how.add_argument("-v", "--version", default="0.1", choices=("0.1",), help="of LPIPS (default: %(default)s)")
    how.add_argument("--net", choices=NETS, default="alex", help="trunk (default: %(default)s, as published)")
    how.add_argument("--trunk_weights", help="its ImageNet weights (default: models/torchvision/{torchvision's name})")
    how.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    how.add_argument("--use_gpu", action="store_true", help="without effect: a GPU is used where there is one")
    flags.add_random_weights(how)
    out = parser.add_argument_group("output")
    out.add_argument("--strict", action="store_true", help="a picture without a partner is an error")
    return parser


def find_pairs(args: argparse.Namespace):
    from erasure.metrics import lpips_folders
    from erasure.metrics.image_folders import case_of
    from erasure.prompts import read_csv

    cases, text = None, args.filter or ""
    if args.filter and runs.find(args.filter).is_file():
        cases, text = {row.case_number for row in read_csv(args.filter, default_seed=0)}, ""

    def wanted(name: str) -> bool:
        return text in name and (cases is None or case_of(name) in cases)

    return lpips_folders.by_name(runs.find(args.dir0), runs.find(args.dir1), wanted)


def main() -> None:
    args = build_parser().parse_args()
    found = find_pairs(args)
    if found.missing:
        print(f"note: {len(found.missing)} pictures have no partner, e.g. {found.missing[0]}", file=sys.stderr)
        if args.strict:
            raise UserError(f"{len(found.missing)} pictures have no partner (--strict)")
    from erasure.generation.models import pick_device
    from erasure.metrics import lpips, lpips_folders, network_inputs

    distance = lpips.Lpips(args.net, args.trunk_weights, args.allow_random_weights, pick_device(args.device))
    flags.note_random_weights(args)
    values = lpips_folders.measure(found.pairs, distance, network_inputs.lpips_rece())
    facts = distance.identity | {"preprocess": "rece", "image_size": 64, "settings": vars(args)}
    facts |= {"random_weights": args.allow_random_weights, "versions": runs.versions()}
    folder = Path(os.path.abspath(runs.find(args.dir1)))
    path = folder / f"lpips_against_{'real' if 'real' in Path(args.dir0).name else 'sd14'}.txt"
    lines = [f"{pair.original.name}: {value:.6f}" for pair, value in zip(found.pairs, values, strict=True)]
    average = sum(values) / len(values)
    runs.write_text(path, "\n".join([*lines, f"avg: {average}"]) + "\n")
    lpips_folders.write_pair_csv(found, values, "case_number", path.with_name(path.stem + "_per_image.csv"))
    runs.write_json(path.with_name(path.stem + ".summary.json"), lpips_folders.summary(found, values, facts))
    print(f"avg: {average}")
    print(f"LPIPS {average:.4f}, mean of {len(values)} pairs; written: {path}")


if __name__ == "__main__":
    errors.run(main)
