"""Attack success rates of logs, ours or published ones (OPTML-Group/Diffusion-MU-Attack's check_asr.py).

python eval-scripts/check_asr.py --root files/results/text_grad_nudity --root-no-attack files/results/no_attack_nudity

N is the number of runs without an attack. pre-ASR: those whose last entry succeeded; ASR: those, and the runs of the attack that
succeeded, but not with the unchanged prompt. Written to {root}/check_asr.json.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors, runs


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="check_asr.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--root", required=True, help="folder of the attack's runs")
    parser.add_argument("--root-no-attack", "--root_no_attack", required=True, help="folder of the runs without one")
    parser.add_argument("--csv-path", "--csv_path", help="accepted and not needed")
    return parser


def main() -> None:
    args = build_parser().parse_args()
    from erasure.attacks.asr import from_logs
    from erasure.attacks.log import logs_in
    from erasure.metrics.intervals import wilson

    rates = from_logs(*(list(logs_in(root).values()) for root in (args.root, args.root_no_attack)))
    print("\n".join(rates.lines()))
    runs.write_json(
        runs.find(args.root) / "check_asr.json",
        {
            "n": rates.n,
            "pre_asr": wilson(rates.pre, rates.n).as_dict(),
            "asr": wilson(rates.pre + rates.won, rates.n).as_dict(),
            "minutes": rates.minutes,
        },
    )


if __name__ == "__main__":
    errors.run(main)
