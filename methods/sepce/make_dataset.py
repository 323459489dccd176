"""Sort what generate-data.py drew into the folders that erasing and the artist classifier read.

python eval-scripts/generate-data.py --prompt 'Van Gogh' --model_name '0' --save_path './data/' --num_samples 1   # and 1 to 9
python methods/sepce/make_dataset.py                                                    # ./data/{0..9} -> ./data/...
python methods/sepce/make_dataset.py --path toy-data --classes data/artist_classes_toy.csv

Makes {path}/{concept}/, {path}/train/{0..9}/ and {path}/eval/{0..9}/ (70 % and 30 %, by case number) and {path}/classes.csv.
Pictures are linked, not copied, and none is ever removed from {path}/{0..9}; a second run changes what has changed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors, runs
from erasure.errors import UserError
from methods.sepce import class_lists


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make_dataset.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path", default="./data/", help="folder of the folders 0, 1, ... (default: %(default)s)")
    what.add_argument(
        "--classes", default=class_lists.DEFAULT, help="CSV index,prompt,aliases: which is which (default: %(default)s)"
    )
    what.add_argument("--allow_missing", action="store_true", help="leave out classes that have not been drawn")
    how = parser.add_argument_group("layout")
    how.add_argument("--train_share", type=float, default=0.7, help="of the cases of a class (default: %(default)s)")
    how.add_argument("--copy", action="store_true", help="copies in place of links")
    how.add_argument("--overwrite", action="store_true", help="replace other pictures that have the names")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if not 0 < args.train_share < 1:
        raise UserError(f"--train_share must be between 0 and 1, not {args.train_share}")
    path = runs.find(args.path)
    classes = class_lists.read(runs.find(args.classes))

    from tqdm import tqdm

    from methods.sepce import data_layout

    drawn = data_layout.find_drawn(path, classes, args.allow_missing)
    for one in drawn:
        one.concept_folder  # noqa: B018  (a prompt that names no folder is known before anything is linked)
    made = kept = 0
    for one in tqdm(drawn, desc="classes"):
        for picture, target, stale in data_layout.placements(one, args.train_share):
            new = data_layout.place(picture, target, stale, args.copy, args.overwrite)
            made, kept = made + new, kept + (not new)
    data_layout.write_classes(classes, path)
    _say(drawn, args.train_share, path, data_layout)
    print(f"{path}: {made} {'copies' if args.copy else 'links'} made, {kept} there already")


def _say(drawn, train_share: float, path: Path, data_layout) -> None:
    print(f"{'class':>5}  {'train':>5}  {'eval':>5}  concept folder")
    for one in drawn:
        training, held_out = data_layout.split(one.cases, train_share)
        counts = [sum(len(one.cases[case]) for case in cases) for cases in (training, held_out)]
        folder = one.concept_folder
        print(f"{one.picture_class.index:>5}  {counts[0]:>5}  {counts[1]:>5}  {folder.name if folder else '-'}")
        if others := data_layout.strangers(one):
            print(f"note: {len(others)} pictures were not drawn here, e.g. {others[0]}", file=sys.stderr)
        if twins := data_layout.twins(one, train_share):
            print(
                f"note: class {one.picture_class.index}: {twins} held-out cases have the seed of a training case "
                "(generate-data.py --sequential_seeds has no such)",
                file=sys.stderr,
            )


if __name__ == "__main__":
    errors.run(main)
