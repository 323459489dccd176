"""Results of the metric scripts put together: a table of summaries, MACE's harmonic means, tests of before and after.

python eval-scripts/summarize.py table results images --out results.csv
python eval-scripts/summarize.py harmonic --erased erased/result.summary.json --kept kept/result.summary.json
python eval-scripts/summarize.py harmonic --erased e.summary.json --kept k.summary.json --synonyms s.summary.json
python eval-scripts/summarize.py difference --erased erased_clip_score.summary.json --kept kept_clip_score.summary.json
python eval-scripts/summarize.py column images/esd_lpipsloss_per_image.csv --column lpips
python eval-scripts/summarize.py paired --before original_judge.csv --after esd_judge.csv --column shown

paired compares images of one name, drawn from the same seeds, of two per-image CSVs: an exact McNemar test for columns of 0 and 1,
the mean difference with a paired bootstrap interval and a sign-flip test for numbers.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="summarize.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    table = commands.add_parser("table", help="every summary below folders as a row", allow_abbrev=False)
    table.add_argument("places", nargs="+", metavar="PLACE", help="folders, or files *.summary.json")
    for name, help_text in (
        ("harmonic", "H_c of accuracies, or H_o with synonyms"),
        ("difference", "H_a: kept minus erased CLIP scores"),
    ):
        one = commands.add_parser(name, help=help_text, allow_abbrev=False)
        one.add_argument("--erased", required=True, help="summary of the erased concepts' images")
        one.add_argument("--kept", required=True, help="summary of the other concepts' images")
        if name == "harmonic":
            one.add_argument("--synonyms", help="summary of the images of the erased concepts' synonyms")
    column = commands.add_parser("column", help="mean of a column of a per-image CSV", allow_abbrev=False)
    column.add_argument("csv", help="per-image CSV")
    pairs = commands.add_parser("paired", help="test of before and after, image by image", allow_abbrev=False)
    pairs.add_argument("--before", required=True, help="per-image CSV of the base model")
    pairs.add_argument("--after", required=True, help="per-image CSV of the edited model, same seeds")
    for one in (column, pairs):
        one.add_argument("--column", required=True, help="its name, e.g. right, shown, clip_score, lpips")
    for one in commands.choices.values():
        one.add_argument("--out", help="also write the result to this file (table: CSV, others: JSON)")
    return parser


def print_table(args: argparse.Namespace) -> None:
    from erasure.metrics import summaries

    found, without = summaries.collect(args.places)
    for file in without:
        print(f"note: {file} has no value", file=sys.stderr)
    for one in found:
        between = "" if one.low is None else f" [{one.low:.4g}, {one.high:.4g}]"
        random = " (random weights: means nothing)" if one.random else ""
        print(f"{one.value:.6g}{between}  n = {one.n}  {one.file}{random}")
    if args.out:
        runs.write_csv(args.out, summaries.table(found))
        print(f"written: {args.out}")


def result_of(args: argparse.Namespace) -> dict:
    from erasure.metrics import summaries

    if args.command == "column":
        return summaries.column_summary(args.csv, args.column)
    if args.command == "paired":
        return summaries.compare(args.before, args.after, args.column)
    erased, kept = summaries.read_summary(args.erased), summaries.read_summary(args.kept)
    if args.command == "difference":
        return summaries.difference(kept, erased)
    synonyms = summaries.read_summary(args.synonyms) if args.synonyms else None
    return summaries.harmonic(erased, kept, synonyms)


def main() -> None:
    args = build_parser().parse_args()
    if args.command == "table":
        print_table(args)
        return
    result = result_of(args)
    value = result["value"]
    title = result.get("score") or args.column
    print(f"{title}: {value['value']:.6g} [{value['low']:.6g}, {value['high']:.6g}], {result['n_images']} images")
    if "p" in result:
        print(f"{result['test']}: p = {result['p']:.4g}")
    if result.get("random_weights"):
        print("note: random weights: these numbers mean nothing", file=sys.stderr)
    if args.out:
        runs.write_json(args.out, result | {"settings": vars(args), "versions": runs.versions()})
        print(f"written: {args.out}")


if __name__ == "__main__":
    errors.run(main)
