"""CLIP score: how well each picture fits the prompt that it was drawn from (CPE's script).

python eval-scripts/evaluate_clip_score.py --image_dir generated_images/celeb_50/guide0.3_pal100000.0_gate_rank16_noise0.001/erased
python eval-scripts/evaluate_clip_score.py --image_dir coco --prompts_path generation_prompts/coco_30k.csv

A picture's prompt is the one of the folder's index.csv, else of its manifest.json, else the prompt of the CSV that its file name
spells; pictures without one are listed. Written beside the folder: {image_dir}_clip_score.csv (per picture) and
{image_dir}_clip_score.summary.json. The model is the user's: models/clip/ViT-B-32.safetensors.
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
        prog="evaluate_clip_score.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--image_dir", required=True, help="folder of the images")
    what.add_argument("--prompts_path", help="CSV of prompts; needed for folders that have no list of their own")
    how = parser.add_argument_group("model")
    how.add_argument(
        "--clip",
        help="CLIP weights in transformers' names, or a folder of them (default: models/clip/ViT-B-32.safetensors)",
    )
    how.add_argument("--batch_size", type=int, default=64, help="images at once (default: %(default)s)")
    flags.add_network_flags(how)
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the files (default: beside --image_dir)")
    out.add_argument("--strict", action="store_true", help="an image without a prompt is an error")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    flags.check_batch_size(args)
    from erasure.metrics import image_prompts

    found = image_prompts.match(runs.find(args.image_dir), args.prompts_path)
    for problem in found.problems():
        print(f"note: {problem}", file=sys.stderr)
    if args.strict and found.problems():
        raise UserError("; ".join(found.problems()) + " (--strict)")
    model = flags.load_clip(args)
    from erasure.metrics import clip_score

    values = clip_score.measure(found.pairs, model, batch_size=args.batch_size)
    mean, deviation = clip_score.mean_and_deviation(values)
    definition = model.identity | {"scale": model.scale, "random_weights": args.allow_random_weights}
    definition |= {"settings": vars(args), "versions": runs.versions()}
    image_dir = Path(os.path.abspath(runs.find(args.image_dir)))
    stem = Path(args.save_path or image_dir.parent) / f"{image_dir.name}_clip_score"
    runs.write_csv(stem.with_name(stem.name + ".csv"), clip_score.per_image(found.pairs, values))
    summary = clip_score.summary(found, values, definition)
    runs.write_json(stem.with_name(stem.name + ".summary.json"), summary)
    print(f"Mean CLIP score ± Standard Deviation: {mean:.4f}±{deviation:.4f}")
    interval = summary["value"]
    print(f"95 % interval {interval['low']:.4f} to {interval['high']:.4f}, {len(values)} images; written to {stem}.csv")


if __name__ == "__main__":
    errors.run(main)
