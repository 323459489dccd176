"""Draw the images of a prompt CSV with a base model, an edited one, or any checkpoint of one.

python eval-scripts/generate-images.py --model_name toy --prompts_path data/quickstart.csv --save_path images
python eval-scripts/generate-images.py --model_name compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_150-lr_0.0001 \\
    --prompts_path data/quickstart.csv --save_path images
python eval-scripts/generate-images.py --model_name SD-v1-4 --preset esd --ddim_steps 50 --num_samples 5 \\
    --prompts_path my_prompts.csv --save_path images --device cuda:0

The CSV has columns prompt, evaluation_seed and case_number (else its rows are counted). Images that are there and were
made from the same things are kept, so a run that was stopped goes on with the same command.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, prompts, runs
from erasure.errors import UserError
from erasure.generation import command
from erasure.generation.presets import NAMINGS, PRESETS


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate-images.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_model_flags(
        parser,
        "original (the base), a base by name (SD-v1-4, toy), the name of a run or file under models/, or a path",
    )
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--prompts_path", required=True, help="CSV with columns prompt, evaluation_seed[, case_number, ...]"
    )
    rows.add_argument("--from_case", type=int, default=0, help="smallest case number (default: %(default)s)")
    rows.add_argument("--till_case", type=int, default=None, help="largest case number, included (default: none)")
    rows.add_argument("--df_start", type=int, default=0, help="first row by position (default: %(default)s)")
    rows.add_argument("--df_length", type=int, default=None, help="number of rows (default: all)")
    rows.add_argument("--default_seed", type=int, help="seed for a CSV without a column of seeds")
    command.add_image_flags(parser)
    columns = parser.add_argument_group("columns and names (defaults: the preset's)")
    columns.add_argument(
        "--use_row_guidance", dest="row_guidance", action=argparse.BooleanOptionalAction, default=None,
        help="take the guidance from the column evaluation_guidance where it is filled",
    )  # fmt: skip
    columns.add_argument(
        "--use_row_size", dest="row_size", action=argparse.BooleanOptionalAction, default=None,
        help="take the size from the columns width and height where they are filled",
    )  # fmt: skip
    columns.add_argument("--naming", choices=NAMINGS, help="file names: case is {case_number}_{k}.png")
    out = command.add_output_flags(parser)
    out.add_argument("--concept", help="with --preset rece: the folder is {save_path}/{concept}/imgs")
    return parser


def choose_rows(args: argparse.Namespace) -> list[prompts.Row]:
    """The rows of the CSV that the flags ask for."""
    default_seed = args.default_seed
    if default_seed is None and args.preset:
        default_seed = PRESETS[args.preset].default_seed
    rows = prompts.read_csv(args.prompts_path, default_seed)
    if args.df_start < 0 or (args.df_length is not None and args.df_length < 1):
        raise UserError("--df_start must not be negative, and --df_length must be at least 1")
    rows = rows[args.df_start :][: args.df_length]
    last = args.till_case if args.till_case is not None else max((row.case_number for row in rows), default=0)
    chosen = [row for row in rows if args.from_case <= row.case_number <= last]
    if not chosen:
        raise UserError(f"{args.prompts_path}: none of its rows is left by --from_case, --till_case and --df_start")
    return chosen


def main() -> None:
    args = build_parser().parse_args()
    if args.concept and args.preset != "rece":
        raise UserError("--concept names the folder of --preset rece; without that preset use --exp_name")
    rows = choose_rows(args)
    folder = command.draw(args, command.choose_model(args), rows, args.concept)
    if args.preset == "rece":
        with runs.atomic_path(folder.parent / "prompts.csv") as copy:
            copy.write_bytes(runs.find(args.prompts_path).read_bytes())


if __name__ == "__main__":
    errors.run(main)
