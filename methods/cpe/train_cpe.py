"""Train residual attention gates that erase concepts, one set per concept (CPE, arXiv 2506.22806).

python methods/cpe/train_cpe.py --config_file configs/train_celeb/config.yaml --st_prompt_idx 0 --end_prompt_idx 4 --guidance_scale 0.3
python methods/cpe/train_cpe.py --config_file configs/train_artist/config.yaml --concepts "claude monet" --devices cuda:0
sh shell_scripts/celebs/train_celeb_cpe_single.sh      # the published run, as it stands

The base is Stable Diffusion v1.4 where that is installed, else the embedded model, for which the configuration has a block of its own.
The network is never run: the losses need the text states and the projections' weights only.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.base_flags import add_base_flags


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train_cpe.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_concept_flags(parser)
    add_training_flags(parser)
    add_base_flags(parser)
    add_run_flags(parser)
    return parser


def add_concept_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to erase")
    group.add_argument("--config_file", required=True, metavar="YAML", help="configs/train_celeb/config.yaml, ...")
    group.add_argument("--st_prompt_idx", type=int, help="first concept of its prompts_file, from 0 on (default: 0)")
    group.add_argument("--end_prompt_idx", type=int, help="last concept, included (default: the last one there is)")
    group.add_argument(
        "--concepts",
        metavar="A,B",
        help="in place of all of these: of the list, or any others, with its first one's settings",
    )


def add_training_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("training (defaults: the configuration's)")
    add = group.add_argument
    add(
        "--guidance_scale", type=float, metavar="GAMMA", help="how far keys and values are pushed past the neutral ones"
    )
    add("--pal", type=float, help="weight of the loss that keeps anchors")
    add("--gate_rank", type=int, help="rank of the gate")
    add("--lora_rank", type=int, help="rank of the residuals; named in the folder if given")
    add(
        "--noise",
        default=None,
        metavar="0.001",
        help="noise of anchors; named in the folder as typed (published: only that)",
    )
    add(
        "--mixup",
        type=_yes_or_no,
        nargs="?",
        const=True,
        metavar="BOOL",
        help="mix pairs of anchors; --mixup '' does not (default: on)",
    )
    add("--no-mixup", dest="mixup", action="store_false", default=None, help="the same")
    add(
        "--separate_key",
        action=argparse.BooleanOptionalAction,
        help="a gate with two projections, as in the paper (published: one)",
    )
    add(
        "--clean_anchors",
        action=argparse.BooleanOptionalAction,
        help="whole words are filled in, once; no target of the run is an anchor",
    )
    add(
        "--skip_last_adv",
        action=argparse.BooleanOptionalAction,
        help="without the last adversarial phase, which changes no gate",
    )
    add("--num_stages", type=int, help="erasing phases")
    add("--iterations", type=int, help="of an erasing phase; the first one has more")
    add("--iterations_adv", type=int, help="of an adversarial phase")
    add("--seed", type=int, help="of all random choices, the same for each concept")
    add("--resume_stage", type=int, help="go on from the files of this stage")


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument(
        "--devices",
        dest="places",
        metavar="LIST",
        help="in place of --device, several among which concepts are shared out: 0,1,2,3 or cpu,cpu",
    )
    group.add_argument(
        "--cache_device",
        metavar="DEVICE",
        help="where states of anchors are kept, up to 3.6 GB (default: where training runs)",
    )
    group.add_argument(
        "--output_root", metavar="FOLDER", help="in place of the working directory, from which save.path starts"
    )
    group.add_argument(
        "--skip_learned",
        action=argparse.BooleanOptionalAction,
        help="leave out concepts whose gates are there, whatever made them (default: the configuration's)",
    )
    group.add_argument(
        "--checkpoint_every", type=int, help="save the state for --resume every N iterations, 0: never (default: 500)"
    )
    again = group.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed training stopped")
    again.add_argument("--force", action="store_true", help="train again, in place of what is there")


def _yes_or_no(text: str) -> bool:
    """As published, --mixup "" is off and any text is on, but for words that say no."""
    return text.strip().lower() not in ("", "false", "no", "0")


def main() -> int | None:
    arguments = build_parser().parse_args()
    from methods.cpe import run

    return run.main(arguments)


if __name__ == "__main__":
    errors.run(main)
