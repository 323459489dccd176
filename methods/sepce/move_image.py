"""Sort evaluation pictures {case_number}_{k}.png into class folders 0, 1, ... for the classifier, LPIPS and FID.

python methods/sepce/move_image.py                                           # ./evaluation_folder/eval, by data/evaluate.csv
python methods/sepce/move_image.py --path evaluation_folder/default          # LPIPS wants the base model's sorted, too
python methods/sepce/move_image.py --rules v2                                # as published: ./evaluation_folder-diff/eval, 50 cases a class

The class of a picture is that of its prompt in the CSV, whatever the order of the rows (upper and lower case and spaces do not matter).
--per_class or --rules count case numbers instead, as the published scripts did: folder 0 are then the first cases of the CSV,
which in data/evaluate.csv are Cezanne's, and not the classifier's class 0. Pictures sorted already stay; none is ever overwritten.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors, runs
from erasure.errors import UserError
from methods.sepce import class_lists

PATH, PROMPTS = "./evaluation_folder/eval", "data/evaluate.csv"
RULES = {"v1": (PATH, 250), "v2": ("./evaluation_folder-diff/eval", 50)}  # folder, cases a class


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="move_image.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--path", "--src", dest="path", help=f"their folder (default: {PATH}; with v2 {RULES['v2'][0]})")
    what.add_argument("--dst", help="folder to make the class folders in (default: --path)")
    what.add_argument("--copy", action="store_true", help="leave the pictures where they are as well")
    how = parser.add_argument_group("classes")
    by = how.add_mutually_exclusive_group()
    by.add_argument("--prompts_path", help=f"CSV case_number,prompt: class by prompt (default: {PROMPTS})")
    by.add_argument("--per_class", type=int, help="class = case number // PER_CLASS")
    by.add_argument(
        "--rules", choices=RULES,
        help="class by case number as published: v1 250 cases a class (though case 250 stayed behind), v2 50",
    )  # fmt: skip
    how.add_argument("--classes", help=f"CSV index,prompt,aliases for --prompts_path (default: {class_lists.DEFAULT})")
    return parser


def class_numbers(args: argparse.Namespace):
    """Function case number -> class, or None for a case of no class."""
    per_class = args.per_class or (RULES[args.rules][1] if args.rules else None)
    if per_class:
        if args.classes:
            raise UserError("--classes is about prompts: leave out --per_class and --rules, or it")
        return lambda case: case // per_class
    from erasure.prompts import read_csv

    classes = class_lists.read(runs.find(args.classes or class_lists.DEFAULT))
    rows = read_csv(args.prompts_path or PROMPTS, default_seed=0)
    return {row.case_number: classes.of(row.prompt).index for row in rows}.get


def main() -> None:
    args = build_parser().parse_args()
    if args.per_class is not None and args.per_class < 1:
        raise UserError(f"--per_class must be at least 1, not {args.per_class}")
    number_of = class_numbers(args)
    source = runs.find(args.path or (RULES[args.rules][0] if args.rules else PATH))
    target = Path(args.dst) if args.dst else source

    from tqdm import tqdm

    from erasure.metrics.image_folders import class_folders, images_by_case
    from methods.sepce import placing

    cases = images_by_case(source)
    if not cases and not (target.is_dir() and class_folders(target)):
        raise UserError(f"{source} holds no pictures {{case_number}}_{{k}}.png")
    if strangers := [case for case in cases if number_of(case) is None]:
        raise UserError(f"{source}: case {strangers[0]} is not in {args.prompts_path or PROMPTS}")
    counts: dict[int, int] = {}
    place = placing.link if args.copy else placing.move
    for case, pictures in tqdm(cases.items(), desc="sorting", disable=len(cases) < 100):
        number = number_of(case)
        for picture in pictures:
            counts[number] = counts.get(number, 0) + place(picture, target / str(number) / picture.name)
    moved = {number: count for number, count in sorted(counts.items()) if count}
    print(f"{target}: {sum(moved.values())} pictures {'copied' if args.copy else 'moved'}")
    for number, folder in class_folders(target).items():
        print(f"{number:>5}  {sum(map(len, images_by_case(folder).values())):>5} pictures")


if __name__ == "__main__":
    errors.run(main)
