"""What the embedded model's pictures show, by its judge, and how far they are from the base model's.

python eval-scripts/evaluate_judge.py --folder_path images/esd --prompts_path data/quickstart.csv
python eval-scripts/evaluate_judge.py --folder_path images/esd --prompts_path data/quickstart.csv --original_path images/original

The CSV needs the columns concept_kind (style, object, person, figure) and concept. Written beside the folder: {folder}_judge.csv (a
row a picture) and {folder}_judge.summary.json; with --original_path also {folder}_judge_distance.csv and .summary.json: a distance in
the judge's features that stands in for LPIPS and is not LPIPS. The judge is in the repository and knows only its own world.
"""

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="evaluate_judge.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--folder_path", required=True, help="folder of {case_number}_{k}.png")
    what.add_argument("--prompts_path", required=True, help="CSV with case_number, concept_kind and concept")
    what.add_argument("--original_path", help="folder of the base model's pictures of the same names")
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the files (default: beside the folder)")
    return parser


def distances(args: argparse.Namespace, cases: list[int], judge, identity: dict, stem: Path) -> dict:
    """Measure and write the distance from the base model's pictures; the summary."""
    from erasure.metrics import lpips_folders, network_inputs
    from erasure.metrics.feature_distance import FeatureDistance

    found = lpips_folders.by_case(runs.find(args.original_path), runs.find(args.folder_path), cases)
    for name in found.missing[:1]:
        print(f"note: {len(found.missing)} pictures have no partner, e.g. {name}", file=sys.stderr)
    distance = FeatureDistance(judge.features)
    values = lpips_folders.measure(found.pairs, distance, network_inputs.full_resolution(), name="judge distance")
    path = stem.with_name(stem.name + "_distance.csv")
    lpips_folders.write_pair_csv(found, values, "case_number", path, ["judge_distance"])
    facts = {"network": identity, "not_lpips": True, "settings": vars(args), "versions": runs.versions()}
    summary = lpips_folders.summary(found, values, facts, "judge_distance")
    runs.write_json(path.with_name(path.stem + ".summary.json"), summary)
    return summary


def main() -> None:
    args = build_parser().parse_args()
    from erasure.metrics.judging import judge_to_files, share_shown
    from erasure.prompts import read_csv
    from toyworld.judge import JUDGE_PATH, load_judge

    rows = read_csv(args.prompts_path, default_seed=0)
    folder = Path(os.path.abspath(runs.find(args.folder_path)))
    stem = Path(args.save_path or folder.parent) / f"{folder.name}_judge"
    judge = load_judge()
    identity = {
        "name": "judge of the embedded model",
        "weights": JUDGE_PATH.name,
        "sha256": runs.sha256_file(JUDGE_PATH),
    }
    csv_path = stem.with_name(stem.name + ".csv")
    judged = judge_to_files(
        folder, rows, judge.predict, csv_path, stem.with_name(stem.name + ".summary.json"), identity
    )  # fmt: skip
    print(f"{share_shown(judged).percent()} of {len(judged)} images show their concept; written: {csv_path}")
    if args.original_path:
        value = distances(args, [row.case_number for row in rows], judge, identity, stem)["value"]
        print(f"judge distance (not LPIPS) {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]")


if __name__ == "__main__":
    errors.run(main)
