"""What the scripts share that compare the pictures of two models by name: their flags, the pairs, the files of a run.

`Measure` says what a script calls its numbers. Imports no torch until pairs are looked for.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from erasure import runs
from erasure.errors import UserError


@dataclass(frozen=True)
class Measure:
    """Of pairs of pictures: its name, and its key in `erasure.metrics.definitions`, which is its column in files of pairs."""

    name: str
    key: str

    @property
    def column(self) -> str:
        """Of the prompt CSV."""
        return f"{self.key}_loss"

    @property
    def ending(self) -> str:
        return f"_{self.key}loss"


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("pictures")
    what.add_argument("--original_path", "--path1", dest="original", required=True, help="folder of the base model's")
    what.add_argument("--edited_path", "--path2", dest="edited", required=True, help="folder of the edited model's")
    what.add_argument(
        "--prompts_path", "--csv_path", dest="prompts",
        help="CSV with case_number; needed for flat folders, leaves out other cases of folders of classes",
    )  # fmt: skip
    what.add_argument("--image", help="compare only the pictures of this name, e.g. 12_0.png")


def add_output_flags(parser: argparse.ArgumentParser) -> None:
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the files (default: beside the edited folder)")
    out.add_argument("--strict", action="store_true", help="a picture without a partner is an error")


def find_pairs(args: argparse.Namespace):
    """(pairs, whether the folders are of classes). Says which pictures have no partner; UserError for that with --strict."""
    from erasure.metrics import lpips_folders
    from erasure.prompts import read_csv

    original, edited = runs.find(args.original), runs.find(args.edited)
    cases = [row.case_number for row in read_csv(args.prompts, default_seed=0)] if args.prompts else None
    classes = lpips_folders.has_classes(original)
    if classes:
        if args.image:
            raise UserError("--image is for flat folders; these are folders of classes")
        found = lpips_folders.by_class(original, edited, cases)
    else:
        if cases is None:
            if not args.image:
                raise UserError("--prompts_path is missing: which of the pictures, and in which order")
            cases = [_case_of(args.image)]
        found = lpips_folders.by_case(original, edited, cases, args.image or "")
    if found.missing:
        print(f"note: {len(found.missing)} pictures have no partner, e.g. {found.missing[0]}", file=sys.stderr)
        if args.strict:
            raise UserError(f"{len(found.missing)} pictures have no partner (--strict)")
    return found, classes


def _case_of(name: str) -> int:
    from erasure.metrics.image_folders import case_of

    if (case := case_of(name)) is None:
        raise UserError(f"--image {name}: not the name of a picture, as in 12_0.png")
    return case


def say(found, values, args: argparse.Namespace, classes: bool, measure: Measure) -> None:
    """The published lines of SepCE's scripts; a line for ESD's, which said nothing."""
    from erasure.metrics.lpips_folders import means

    if args.image:
        print(f"{args.image}: {values[0]}")
    elif classes:
        prefix = f"{args.prompts}-" if args.prompts else ""
        for number, mean in means(found, values).items():
            print(f"{prefix}{number}: {mean}")
    print(f"{measure.name} {sum(values) / len(values):.4f}, mean of {len(values)} pairs")


def write(found, values, args: argparse.Namespace, classes: bool, measure: Measure, definition: dict) -> Path:
    """The files of a run; returns the main one."""
    from erasure.metrics import lpips_folders

    edited = Path(os.path.abspath(runs.find(args.edited)))
    stem = Path(args.save_path or edited.parent) / f"{edited.name}{measure.ending}"
    csv_path = stem.with_name(stem.name + ".csv")
    if classes:
        lpips_folders.write_class_csv(found, values, csv_path, measure.key)
    elif args.prompts:
        columns = {measure.column: lpips_folders.means(found, values)}
        lpips_folders.write_case_columns(args.prompts, columns, csv_path)
    per_image = stem.with_name(stem.name + "_per_image.csv")
    lpips_folders.write_pair_csv(found, values, "class" if classes else "case_number", per_image, (measure.key,))
    summary = lpips_folders.summary(found, values, definition, measure.key)
    runs.write_json(stem.with_name(stem.name + ".summary.json"), summary)
    return csv_path if classes or args.prompts else per_image
