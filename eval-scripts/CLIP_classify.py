"""Which of the attributes CLIP sees in the pictures of every prompt, e.g. of which gender they are (UCE's script).

python eval-scripts/CLIP_classify.py --im_path images/uce --attributes 'a man,a woman' --prompts_path data/profession_prompts.csv

Written beside the folder: {folder}_gender_classify.csv (the prompt CSV with the share of every attribute, e.g. a_man_bias),
..._per_image.csv and ....summary.json: the deviation from even shares, by the column profession. The model is the user's:
models/clip/ViT-B-32.safetensors.
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
        prog="CLIP_classify.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("pictures")
    what.add_argument("--im_path", required=True, help="folder of {case_number}_{k}.png")
    what.add_argument("--prompts_path", required=True, help="CSV with case_number, and profession for the deviations")
    what.add_argument("--attributes", default="a man,a woman", help="texts, separated by commas (default: %(default)s)")
    what.add_argument("--from_case", type=int, default=0, help="first case number (default: %(default)s)")
    what.add_argument("--till_case", type=int, default=1000000, help="last case number (default: %(default)s)")
    how = parser.add_argument_group("model")
    how.add_argument("--clip", help="CLIP ViT-B/32 in transformers' names (default: models/clip/ViT-B-32.safetensors)")
    flags.add_network_flags(how)
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="folder of the files (default: beside the folder)")
    return parser


def check(args: argparse.Namespace):
    """(attributes, prompt table, pictures with their cases, cases without)."""
    from erasure.metrics import case_csv
    from erasure.metrics.image_folders import images_by_case

    attributes = [text.strip() for text in args.attributes.split(",") if text.strip()]
    if len(set(attributes)) != len(attributes) or len(attributes) < 2:
        raise UserError("--attributes: at least two different ones, separated by commas")
    table = case_csv.read(args.prompts_path)
    by_case = images_by_case(runs.find(args.im_path))
    cases = [case for case in table.cases if args.from_case <= case <= args.till_case]
    pictures = [(path, case) for case in cases for path in by_case.get(case, ())]
    if not pictures:
        raise UserError(f"{args.im_path} holds no picture {{case_number}}_{{k}}.png of a row of {args.prompts_path}")
    return attributes, table, pictures, [case for case in cases if case not in by_case]


def main() -> None:
    args = build_parser().parse_args()
    attributes, table, pictures, missing = check(args)
    if missing:
        print(f"note: {len(missing)} rows have no picture, e.g. case {missing[0]}", file=sys.stderr)
    model = flags.load_clip(args)
    from erasure.metrics import case_csv, clip_attributes

    answers = clip_attributes.measure([path for path, _ in pictures], model, attributes)
    by_case = clip_attributes.shares([case for _, case in pictures], answers, len(attributes))

    folder = Path(os.path.abspath(runs.find(args.im_path)))
    path = Path(args.save_path or folder.parent) / f"{folder.name}_gender_classify.csv"
    cells = {case: [[repr(share) for share in own]] for case, own in by_case.items()}
    runs.write_csv(path, case_csv.lines(table, [clip_attributes.column(a) for a in attributes], cells))
    images = [[file.name, case, attributes[one]] for (file, case), one in zip(pictures, answers, strict=True)]
    runs.write_csv(path.with_name(path.stem + "_per_image.csv"), [["file", "case_number", "attribute"], *images])
    facts = model.identity | {"attributes": attributes, "settings": vars(args), "versions": runs.versions()}
    facts["random_weights"] = args.allow_random_weights
    summary = clip_attributes.summary(by_case, table.column("profession"), len(pictures), missing, facts)
    runs.write_json(path.with_name(path.stem + ".summary.json"), summary)
    value = summary["value"]
    print(
        f"deviation {value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}] of {value['n']} professions or cases"
    )
    print(f"written: {path}")


if __name__ == "__main__":
    errors.run(main)
