"""Success rates of attacks on an artist's style, of logs, ours or published ones (OPTML-Group/Diffusion-MU-Attack's style_analysis.py).

python eval-scripts/style_analysis.py --root files/results/text_grad_style --top_k 1
python eval-scripts/style_analysis.py --root outputs/attacks/text_grad --required_artist 'van gogh' --top_k 1

A picture counts if the artist is among the first --top_k that the classifier named for it. pre-ASR: runs whose entry 0, the unchanged
prompt, counts; ASR: those, and runs with a later entry that does; of all runs (published: of 50, however many there are). Written into
--root: style_analysis_topk_{k}.summary.json, and the pictures with successful_style.json in successful_style_topk_{k}/.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs
from erasure.errors import UserError


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="style_analysis.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--root", required=True, help="folder of the attack's runs")
    parser.add_argument(
        "--required_artist", default="vincent-van-gogh", help="as the classifier names it (default: %(default)s)"
    )
    parser.add_argument(
        "--top_k", type=int, default=10, help="names of a picture that count, the first ones (default: %(default)s)"
    )
    parser.add_argument(
        "--threshold", type=float, help="score that counts wherever the artist is among them, in place of --top_k"
    )
    return parser


def main() -> None:
    args = build_parser().parse_args()
    if args.top_k < 1:
        raise UserError(f"--top_k must be at least 1, not {args.top_k}")
    if args.threshold is not None and not 0 <= args.threshold <= 1:
        raise UserError(f"--threshold must be from 0 to 1, not {args.threshold}")
    from erasure.attacks import styles
    from erasure.attacks.log import logs_in

    rule, root, logs = styles.Rule(args.required_artist, args.top_k, args.threshold), runs.find(args.root), None
    logs = logs_in(root)
    judged, names = styles.judge(logs, rule), styles.names_in(logs)
    if styles.plain(rule.artist) not in map(styles.plain, names):
        print(f"note: no picture was called {rule.artist}, but {', '.join(names[:3])}, ...", file=sys.stderr)
    found = styles.summary(logs, rule)
    print("\n".join(styles.rates(judged).lines()))
    print(f"{_said(found['asr'])} (95 % interval)")
    for k, one in found.get("top_k", {}).items():
        print(f"top {k}: pre-ASR {_said(one['pre_asr'])}, ASR {_said(one['asr'])}")
    runs.write_json(root / f"style_analysis_{rule.label}.summary.json", found)
    pictures = root / f"successful_style_{rule.label}"
    if missing := styles.keep_pictures(judged, logs, pictures):
        print(f"note: the pictures of {len(missing)} runs are not there, e.g. of {missing[0]}", file=sys.stderr)
    print(f"written: {pictures}")


def _said(share: dict) -> str:
    return f"{100 * share['value']:.0f} % [{100 * share['low']:.0f}, {100 * share['high']:.0f}]"


if __name__ == "__main__":
    errors.run(main)
