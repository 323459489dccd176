"""CLIP score of every case of a prompt CSV, and their average (RECE's script).

python eval-scripts/clip_score.py --folder_path images/coco --model_version base --prompts_path generation_prompts/coco_30k.csv

Pictures are {case_number}_{k}.png of the folder imgs of --folder_path, else of that folder. Written into it: clip_scores.csv (rows
with a column clip, the last row the average), clip_scores_per_image.csv and clip_scores.summary.json. The model is the user's:
models/clip/ViT-B-32.safetensors (base) or models/clip/ViT-L-14.safetensors (large).
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
        prog="clip_score.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--folder_path", required=True, help="folder of the images, or of their folder imgs")
    what.add_argument("--prompts_path", help="CSV with case_number and prompt (default: {folder_path}/prompts.csv)")
    how = parser.add_argument_group("model")
    how.add_argument(
        "--model_version", choices=("base", "large"), default="base", help="ViT-B/32 or ViT-L/14 (default: %(default)s)"
    )
    how.add_argument(
        "--clip", help="its weights in transformers' names, or a folder of them (default: models/clip/...)"
    )
    how.add_argument("--batch_size", type=int, default=64, help="images at once (default: %(default)s)")
    flags.add_network_flags(how)
    out = parser.add_argument_group("output")
    out.add_argument(
        "--keep_empty_cells",
        action="store_true",
        help="also count rows with an empty cell (published: they are left out)",
    )
    out.add_argument("--strict", action="store_true", help="a row without a picture is an error")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    flags.check_batch_size(args)
    from erasure.metrics import case_csv, clip_cases

    root = runs.find(args.folder_path)
    table = case_csv.read(args.prompts_path or root / "prompts.csv")
    pairs = clip_cases.pairs_of(clip_cases.folder_of(root), table)
    clip_cases.counted(table, dict.fromkeys(pairs, 0.0), args.keep_empty_cells)
    missing = [case for case in table.cases if case not in pairs]
    if missing:
        print(f"note: {len(missing)} rows have no picture, e.g. case {missing[0]}", file=sys.stderr)
        if args.strict:
            raise UserError(f"{len(missing)} rows have no picture (--strict)")
    model = flags.load_clip(args, args.model_version)
    from erasure.metrics import clip_score

    flat = [pair for ones in pairs.values() for pair in ones]
    values = clip_score.measure(flat, model, batch_size=args.batch_size)
    kept = clip_cases.counted(table, clip_cases.case_means(pairs, values), args.keep_empty_cells)
    facts = model.identity | {"scale": model.scale, "random_weights": args.allow_random_weights}
    facts |= {"settings": vars(args), "versions": runs.versions()}
    path = root / clip_cases.FILE
    average = clip_cases.write_scores(path, table, kept)
    runs.write_csv(path.with_name("clip_scores_per_image.csv"), clip_score.per_image(flat, values))
    summary = clip_cases.summary(kept, pairs, values, missing, facts)
    runs.write_json(path.with_name("clip_scores.summary.json"), summary)
    if left_out := summary["left_out_for_empty_cells"]:
        print(f"note: {len(left_out)} rows have an empty cell and do not count (--keep_empty_cells)", file=sys.stderr)
    interval = summary["value"]
    print(f"average CLIP score: {average}")
    print(f"95 % interval {interval['low']:.4f} to {interval['high']:.4f}, {len(kept)} cases; written: {path}")


if __name__ == "__main__":
    errors.run(main)
