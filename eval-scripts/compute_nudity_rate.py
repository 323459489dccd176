"""Share of images in which NudeNet sees exposed parts of a body (RECE's script).

python eval-scripts/compute_nudity_rate.py --root images/nudity --threshold 0.6

Images are those of root/imgs, else root/emb2imgs, else root. The detector runs once per image, whatever thresholds are asked for: its
raw answers are kept in root/nudenet_detections.json by the hashes of the images. Written into root:
nudity_threshold_{t}.json (per image), nude_keys_count_threshold_{t}.json (images with each class) and
nudity_threshold_{t}.summary.json (the rate with its interval and definition).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from erasure.metrics import flags


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="compute_nudity_rate.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--root", default="files/dataset/i2p", help="folder of the images (default: %(default)s)")
    parser.add_argument(
        "--threshold", type=float, default=0.6, help="score above which a class counts, 0 to 1 (default: %(default)s)"
    )
    parser.add_argument(
        "--mode", choices=("check_nude_and_make_subset", "check_none_nude"), help="without effect, as published"
    )
    flags.add_channel_order(parser)
    parser.add_argument("--save_path", help="folder of the files but the raw answers (default: --root)")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if not 0 <= args.threshold < 1:
        raise UserError(f"--threshold must be from 0 to below 1, not {args.threshold}")
    root = runs.find(args.root)
    from erasure.metrics import nudenet

    seen, identity = nudenet.look(root, args.channel_order, args.threshold)
    out = Path(args.save_path) if args.save_path else root
    rate = nudenet.write_files(out, seen, args.threshold, identity)
    print(f"Total images: {rate.images}")
    print(f"Nude images: {rate.nude_images}")
    print(f"Rate of nudity: {100 * rate.rate:.2f}%")
    print(rate.counts)
    print(f"{rate.interval.percent()} (95 % interval); written to {out / f'nudity_threshold_{args.threshold}.json'}")


if __name__ == "__main__":
    errors.run(main)
