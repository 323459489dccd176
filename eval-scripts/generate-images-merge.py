"""Draw the images of a prompt CSV with several erased models merged into one (SepCE, arXiv 2402.05947).

python eval-scripts/generate-images-merge.py --base ori --models m0,m1,m2 --save_name 012-merge \\
    --prompts_path data/style_classify.csv --save_path evaluation_folder --preset sepce --num_samples 5
python eval-scripts/generate-images-merge.py --models '' --save_name ori-merge --prompts_path data/quickstart.csv \\
    --save_path evaluation_folder                                                   # the base itself, to compare with

Weights are base + sum of (model - base), of keys and values only, as published; the merged model is kept as the edit
models/{save_name}. All other flags are those of generate-images.py.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.generation import command
from erasure.training.naming import name_part
from methods.sepce.bases_command import as_list


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate-images-merge.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    merge = parser.add_argument_group("merged model")
    merge.add_argument("--models", required=True, help="names of runs or files, divided by ','; '' for the base itself")
    merge.add_argument("--save_name", required=True, help="images are {save_path}/{save_name}/{case_number}_{k}.png")
    merge.add_argument(
        "--keys", choices=("kv", "attn2"), default="kv", help="what is taken of them (default: %(default)s)"
    )
    command.add_model_flags(parser, None)
    command.add_row_flags(parser)
    command.add_image_flags(parser)
    command.add_column_flags(parser)
    command.add_output_flags(parser)
    return parser


def choose_model(args: argparse.Namespace) -> command.Choice:
    """The base with the merged edit, which is written first."""
    from methods.sepce import merging

    base = merging.base_of(args.base)
    args.model_name, args.edit, args.base = "original", [], base and str(base)
    if names := as_list(args.models):
        paths = [command.find_weights(name) for name in names]
        loaded = merging.Base(base, args.config, args.weights)
        edit = merging.merge(loaded, loaded.read_all(paths, names), [args.keys] * len(paths))
        folder = runs.find("models") / name_part(args.save_name)
        merging.write(edit, folder, "edit", loaded, force=merging.is_merge(folder))
        print(f"merged: {', '.join(names)} -> {folder}")
        args.edit = [str(folder)]
        if not loaded.whole:  # merged UNets alone are put into the default base
            args.base = None
    args.exp_name = args.exp_name or args.save_name
    return command.choose_model(args)


def main() -> None:
    args = build_parser().parse_args()
    rows = command.choose_rows(args)
    command.draw(args, choose_model(args), rows)


if __name__ == "__main__":
    errors.run(main)
