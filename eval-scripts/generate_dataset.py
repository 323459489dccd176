"""Draw the pictures that attacks start from with the original model (OPTML-Group/Diffusion-MU-Attack's generate_dataset.py).

python eval-scripts/generate_dataset.py --prompts_path data/attacks/van-gogh.csv --concept van_gogh --save_path outputs/attack-data --only_shown
python eval-scripts/generate_dataset.py --prompts_path prompts/nudity.csv --concept nudity --save_path files/dataset --base sd-v1-4

Writes {save_path}/{concept}/imgs/{case}_0.png and {save_path}/{concept}/prompts.csv. With --only_shown, prompts of which the
detector does not see the concept in the picture are left out: rates are of prompts that succeed on the original model.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.base_models import published_base
from erasure.errors import UserError
from erasure.generation.presets import SAMPLERS


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="generate_dataset.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    data = parser.add_argument_group("data")
    data.add_argument("--prompts_path", required=True, help="CSV with columns prompt, evaluation_seed, ...")
    data.add_argument("--concept", required=True, help="of configs/attacks/concepts.json, or of the embedded model")
    data.add_argument("--save_path", required=True, help="the data set is {save_path}/{concept}")
    data.add_argument("--only_shown", action="store_true", help="leave out prompts whose picture lacks the concept")
    data.add_argument("--df_length", type=int, help="only so many rows, the first of the CSV")
    data.add_argument("--classifier_dir", help="weights of the detector, where they are the user's")
    how = parser.add_argument_group("model")
    how.add_argument("--base", help="toy, sd-v1-4, a checkpoint or a diffusers folder (default: the one installed)")
    how.add_argument("--config", help="its configuration (default: the one that fits)")
    how.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    how.add_argument("--ddim_steps", type=int, help="steps of the sampler (default: 25; 10 on the embedded model)")
    how.add_argument("--sampler", choices=SAMPLERS, help="(default: lms; dpm on the embedded model)")
    how.add_argument("--image_size", type=int, help="pixels a side (default: what the model was trained on)")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    from erasure import base_models
    from erasure.attacks import command, dataset
    from erasure.generation import generate, models
    from erasure.generation.presets import settings
    from erasure.prompts import read_csv
    from toyworld.attack_judge import embedded_judge

    if args.df_length is not None and args.df_length < 1:
        raise UserError(f"--df_length must be at least 1, not {args.df_length}")
    rows = read_csv(args.prompts_path, default_seed=0)[: args.df_length]
    if Path(args.concept).name != args.concept:
        raise UserError(f"--concept {args.concept}: cannot name a folder")
    folder = Path(args.save_path) / args.concept
    device = models.pick_device(args.device)
    model, base = base_models.load(published_base(args.base), args.config, device, weights="prefer_ema")
    toy = base.family == "toy"
    task = {"concept": args.concept, "classifier_dir": args.classifier_dir}
    judge = command.judge_for(task, base.family, device, embedded_judge)[0] if args.only_shown else None
    how = settings(
        "toy-fast" if toy else "esd", steps=args.ddim_steps or (None if toy else 25), sampler=args.sampler,
        image_size=args.image_size, row_guidance=True,
    )  # fmt: skip
    print(generate(model, rows, folder / dataset.PICTURES, how, {"base": base.to_dict()}))
    kept = dataset.keep_shown(folder, rows, judge) if judge else rows
    dataset.write_prompts(folder, kept)
    print(f"{folder / dataset.PROMPTS}: {len(kept)} of {len(rows)} prompts")
    runs.write_json(
        folder / "dataset.json", {"base": base.to_dict(), "concept": args.concept, "only_shown": args.only_shown}
    )


if __name__ == "__main__":
    errors.run(main)
