"""The prompts that attacks found, as a CSV for generate-images.py: of the log.json of runs, ours and published ones.

python eval-scripts/collect_prompts.py --root outputs/attacks/text_grad
python eval-scripts/generate-images.py --prompts_path outputs/attacks/text_grad/found_prompts.csv --use_row_guidance \\
    --preset toy-fast --model_name original --save_path images

The column token_ids has the tokens that were drawn, without start and end; generate-images.py draws them as they are, since the text
that they make may be encoded as others. Attacks draw that text by default: then token_ids are its tokens (--tokens found has those that the
attack found). With the preset, sampler and steps of the attack the same model draws the same pictures.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError
from erasure.prompts import MAX_SEED


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="collect_prompts.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("runs")
    what.add_argument("--root", nargs="+", required=True, metavar="FOLDER", help="folders of attacks' runs")
    what.add_argument(
        "--entries", choices=("won", "last", "all"), default="won",
        help="of every run the first prompt that succeeded, the last one, or all (default: %(default)s)",
    )  # fmt: skip
    what.add_argument("--unchanged", action="store_true", help="the prompt before the attack counts as well")
    what.add_argument(
        "--tokens", choices=("drawn", "found"), default="drawn",
        help="tokens that the attack drew, or those that it found (default: %(default)s)",
    )  # fmt: skip
    seeds = parser.add_argument_group(
        "seeds", "Of the log where it says them, as ours do; else of the attacked prompts."
    )
    seeds.add_argument(
        "--dataset_path", help="their folder or CSV (default: task.dataset_path of config.json, if it is here)"
    )
    seeds.add_argument("--default_seed", type=int, help="for runs that say nothing of it")
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", help="the CSV (default: found_prompts.csv in the first of --root)")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if args.default_seed is not None and not 0 <= args.default_seed <= MAX_SEED:
        raise UserError(f"--default_seed must be from 0 to {MAX_SEED}, not {args.default_seed}")
    from erasure.attacks import collecting

    wanted = collecting.Wanted(args.entries, args.unchanged, args.tokens, args.dataset_path, args.default_seed)
    prompts, count = collecting.collect(args.root, wanted)
    path = Path(args.save_path or runs.find(args.root[0]) / "found_prompts.csv")
    collecting.write(path, prompts)
    print(f"{path}: {len(prompts)} prompts of {count} runs")
    if other := sum(prompt.other_tokens for prompt in prompts):
        print(
            f"note: the text of {other} of them is encoded as other tokens than the attack found, and it drew the text",
            file=sys.stderr,
        )


if __name__ == "__main__":
    errors.run(main)
