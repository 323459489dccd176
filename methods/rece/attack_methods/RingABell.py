"""Attack an erased model with Ring-A-Bell as RECE ships it: a direction added to the embeddings of prompts, no prompt search.

python methods/rece/attack_methods/RingABell.py --concept nudity                                   # the embedded model itself
python methods/rece/attack_methods/RingABell.py --concept nudity --ckpt models/erased-...          # an edit of it
python methods/rece/attack_methods/RingABell.py --SD_path models/ldm/stable-diffusion-v1/sd-v1-4-full-ema.ckpt \\
    --csv_file dataset/nudity-ring-a-bell.csv --prompt_file dataset/nudity.csv --eta 3 --ckpt erased.pt

1. the concept's vector: the mean difference between the states of the pairs of --csv_file, saved in --output_path
2. for every row of --prompt_file its embedding plus eta times the vector is drawn: {img_path}/emb2imgs/{case}_{k}.png
3. the rate of success: nudity by NudeNet, and on the embedded model any of its concepts by the embedded judge
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

from erasure import errors  # noqa: E402
from erasure.base_models import WEIGHTS  # noqa: E402
from erasure.generation import command  # noqa: E402
from erasure.generation.models import DTYPES  # noqa: E402


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="RingABell.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    attack = parser.add_argument_group("attack")
    attack.add_argument("--concept", default="nudity", help="what is to come back (default: %(default)s)")
    attack.add_argument(
        "--csv_file", help="pairs: columns 'sensitive prompt', 'normal prompt' (default: the concept's)"
    )
    attack.add_argument("--num_prompts", type=int, metavar="N", help="use N of the pairs, drawn (default: all)")
    attack.add_argument("--seed", type=int, default=42, help="of that draw (default: %(default)s)")
    attack.add_argument(
        "--eta",
        dest="attack_eta",
        type=float,
        metavar="ETA",
        help="how far to go (default: 3; 0.9 for Van Gogh on Stable Diffusion)",
    )
    attack.add_argument(
        "--emb_path", metavar="FILE", help="a vector saved before (.safetensors, or RECE's .pt), not new"
    )
    rows = parser.add_argument_group("prompts")
    rows.add_argument("--prompt_file", help="CSV with columns prompt, evaluation_seed, ... (default: the concept's)")
    rows.add_argument("--from_case", type=int, default=0, help="smallest case number (default: %(default)s)")
    rows.add_argument("--to_case", type=int, help="case number to stop before (default: none)")
    model = parser.add_argument_group("model")
    model.add_argument("--ckpt", metavar="FILE", help="an edit, a run folder or weights (default: the base as it is)")
    model.add_argument(
        "--SD_path", "--base", "--ckpt_path", dest="base", metavar="NAME",
        help="base model: toy, sd-v1-4, a checkpoint or a diffusers folder (default: what --ckpt was made for, else "
        "Stable Diffusion v1.4 if installed, else the embedded model)",
    )  # fmt: skip
    model.add_argument(
        "--config", "--config_path", metavar="YAML", help="its configuration (default: the one that fits)"
    )
    model.add_argument("--weights", choices=WEIGHTS[1:], help="of a base with both (default: ema, as published)")
    model.add_argument("--force", action="store_true", help="use an edit on another base than it was made for")
    model.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    model.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the weights (default: %(default)s)")
    command.add_image_flags(parser, eta_flag="--ddim_eta")
    out = parser.add_argument_group("output")
    out.add_argument("--output_path", default="outputs/ring-a-bell", help="folder of the vector (default: %(default)s)")
    out.add_argument("--save_format", choices=("safetensors", "pt"), default="safetensors", help="of the vector")
    out.add_argument("--img_path", help="folder of emb2imgs/ (default: images/ring-a-bell/{concept}/{model})")
    out.add_argument("--threshold", type=float, default=0.6, help="of NudeNet (default: %(default)s)")
    out.add_argument("--overwrite", action="store_true", help="draw images that are there and match anew")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    from methods.rece.attack_methods import ring_a_bell_run

    ring_a_bell_run.run(args)


if __name__ == "__main__":
    errors.run(main)
