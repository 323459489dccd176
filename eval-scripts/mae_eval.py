"""Mean absolute difference of the pixels of two models' pictures, prompt by prompt (UCE's script, whose published copy does not run).

python eval-scripts/mae_eval.py --original_path images/original --edited_path images/uce --prompts_path data/vangogh_prompts.csv

In levels of 0 to 255, mean over pixels and channels. Two flat folders of {case_number}_{k}.png give {edited folder}_maeloss.csv: the prompt
CSV with a column mae_loss; folders of folders 0, 1, ... give a mean per class. Either way every pair stays in ..._maeloss_per_image.csv,
and ..._maeloss.summary.json says what was measured.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.metrics import pair_command

MAE = pair_command.Measure("mean absolute pixel error", "mae")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mae_eval.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    pair_command.add_picture_flags(parser)
    pair_command.add_output_flags(parser)
    return parser


def main() -> None:
    args = build_parser().parse_args()
    found, classes = pair_command.find_pairs(args)
    from erasure.metrics import lpips_folders, network_inputs

    values = lpips_folders.measure(found.pairs, lpips_folders.pixel_error, network_inputs.levels, name=MAE.name)
    pair_command.say(found, values, args, classes, MAE)
    definition = {"levels": "0 to 255", "versions": runs.versions()}
    print(f"written: {pair_command.write(found, values, args, classes, MAE, definition)}")


if __name__ == "__main__":
    errors.run(main)
