"""Draw many images of one prompt: training data for a classifier.

python eval-scripts/generate-data.py --prompt 'Van Gogh' --model_name 0 --save_path train-data            # 1000 images
python eval-scripts/generate-data.py --prompt 'golf ball' --model_name toy --save_path data --num_images 50 --seed 1

Images are {save_path}/{model_name}/{case}_{k}.png, and their seeds stand in seeds.csv beside them. A --model_name that
is no model is only the name of the folder, as published; --no-allow_base makes it an error. Published: every image
after the first got a garbled prompt (its text in one more list), and seeds that nobody could repeat.
"""

import argparse
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import prompts, runs
from erasure.errors import UserError
from erasure.generation import command, distributed

MAX_SEED = 3000  # published: random.randint(0, 3000)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate-data.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to draw")
    what.add_argument("--prompt", required=True, help="the prompt of all images")
    what.add_argument("--num_images", type=int, default=1000, help="cases, each with its seed (default: %(default)s)")
    what.add_argument("--from_case", type=int, default=0, help="first case to draw (default: %(default)s)")
    what.add_argument("--seed", type=int, default=0, help="what the seeds are drawn from (default: %(default)s)")
    what.add_argument("--sequential_seeds", action="store_true", help="seeds 0, 1, 2, ...; drawn ones can repeat")
    command.add_model_flags(parser, "a model as in generate-images.py, or just a name for the folder")
    what.add_argument(
        "--allow_base", action=argparse.BooleanOptionalAction, default=True,
        help="draw with the base model if --model_name is no model (default: on)",
    )  # fmt: skip
    command.add_image_flags(parser)
    command.add_output_flags(parser)
    return parser


def make_rows(prompt: str, count: int, seed: int, sequential: bool) -> list[prompts.Row]:
    """One row a case, with seeds 0..count-1 or drawn uniformly from 0..3000."""
    source = random.Random(seed)
    seeds = range(count) if sequential else [source.randint(0, MAX_SEED) for _ in range(count)]
    return [prompts.Row(case, prompt, row_seed) for case, row_seed in enumerate(seeds)]


def choose_model(args: argparse.Namespace) -> command.Choice:
    try:
        return command.choose_model(args)
    except command.NoSuchModel:
        label = args.model_name.strip()
        if not args.allow_base:
            raise
        print(
            f"note: there is no model {label!r}, so it only names the folder: images of the base model", file=sys.stderr
        )
        args.model_name, args.exp_name = "original", args.exp_name or label
        return command.choose_model(args)


def write_seeds(rows: list[prompts.Row], path: Path) -> None:
    lines = ([row.case_number, row.prompt, row.evaluation_seed] for row in rows)
    runs.write_csv(path, [["case_number", "prompt", "evaluation_seed"], *lines])


def main() -> None:
    args = build_parser().parse_args()
    args.naming = "case"  # whatever the preset: seeds repeat, and so would names made of prompt and seed
    rows = make_rows(args.prompt, args.num_images, args.seed, args.sequential_seeds)[max(args.from_case, 0) :]
    if not rows:
        raise UserError(f"no images to draw: --num_images {args.num_images}, --from_case {args.from_case}")
    folder = command.draw(args, choose_model(args), rows)
    write_seeds(rows, folder / "seeds.csv")


if __name__ == "__main__":
    distributed.run(main)
