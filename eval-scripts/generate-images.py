"""Draw the images of a prompt CSV with a base model, an edited one, or any checkpoint of one.

python eval-scripts/generate-images.py --model_name toy --prompts_path data/quickstart.csv --save_path images
python eval-scripts/generate-images.py --model_name compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_150-lr_0.0001 \\
    --prompts_path data/quickstart.csv --save_path images
python eval-scripts/generate-images.py --model_name SD-v1-4 --preset esd --ddim_steps 50 --num_samples 5 \\
    --prompts_path my_prompts.csv --save_path images --device cuda:0
python eval-scripts/generate-images.py --resag output/CPE_Celeb/celeb_embedded/RUN/adam_driver --prompts_path data/quickstart.csv \\
    --save_path images
torchrun --nproc_per_node 4 eval-scripts/generate-images.py --model_name SD-v1-4 --prompts_path my_prompts.csv \\
    --save_path images                                             # four processes, each on its GPU; the same images

The CSV has columns prompt, evaluation_seed and case_number (else its rows are counted); a row with token_ids is drawn with those
tokens in place of its prompt (collect_prompts.py writes them). Images that are there and were made from the same things are kept,
so a run that was stopped goes on with the same command.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import runs
from erasure.errors import UserError
from erasure.generation import command, distributed
from erasure.prompt_sets import prompt_file


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
    command.add_row_flags(parser)
    command.add_image_flags(parser)
    command.add_column_flags(parser)
    out = command.add_output_flags(parser)
    out.add_argument("--concept", help="with --preset rece: the folder is {save_path}/{concept}/imgs")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if args.concept and args.preset != "rece":
        raise UserError("--concept names the folder of --preset rece; without that preset use --exp_name")
    rows = command.choose_rows(args)
    folder = command.draw(args, command.choose_model(args), rows, args.concept)
    if args.preset == "rece":
        with runs.atomic_path(folder.parent / "prompts.csv") as copy:
            copy.write_bytes(prompt_file(args.prompts_path).read_bytes())


if __name__ == "__main__":
    distributed.run(main)
