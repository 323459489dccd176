"""Attack an erased model: can the concept be brought back? (OPTML-Group/Diffusion-MU-Attack's attack.py, with more attacks)

python eval-scripts/attack.py --config-file configs/attacks/embedded/text_grad.json --task.target_ckpt 'models/erased-van gogh-...' --all
python eval-scripts/attack.py --config-file configs/attacks/nudity/text_grad.json --attacker.attack_idx 0 --logger.name attack_idx_0

Every key of a configuration can be given as a flag. A run leaves config.json, log.json (entry 0 is the unchanged prompt) and images/
in {logger.json.root}/{logger.name}; a run that was stopped goes on from there. --all writes asr.summary.json besides.
Data: eval-scripts/generate_dataset.py. Rates of published logs: eval-scripts/check_asr.py.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.attacks.settings import KEYS, resolve
from erasure.generation.models import DTYPES
from erasure.generation.presets import SAMPLERS


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="attack.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    ours = parser.add_argument_group("run")
    ours.add_argument("--config-file", "--config_file", metavar="JSON", help="settings; flags override them")
    ours.add_argument("--all", action="store_true", help="attack every prompt, those that are done left out")
    ours.add_argument("--overwrite", action="store_true", help="attack anew what is there")
    ours.add_argument(
        "--published_no_attack_index",
        action="store_true",
        help="no_attack counts every row of the CSV, long prompts too, as its published runner does",
    )
    ours.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    ours.add_argument("--dtype", choices=DTYPES, default="fp32", help="of the weights (default: %(default)s)")
    how = parser.add_argument_group(
        "pictures", "Defaults: LMS, 50 steps, guidance 7.5; dpm, 10, 2.5 on the embedded model."
    )
    how.add_argument("--sampler", choices=SAMPLERS)
    how.add_argument("--steps", type=int)
    how.add_argument("--guidance", type=float, help="of rows without one of their own")
    how.add_argument("--image_size", type=int, help="pixels a side")
    groups = {}
    for name, key in KEYS.items():
        section = name.rpartition(".")[0]
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        default = "" if key.default is None else f" (default: {key.default})"
        choices = f"; {', '.join(key.choices)}" if key.choices else ""
        text = (key.about + choices + default).replace("%", "%%")
        groups[section].add_argument(f"--{name}", dest=name, metavar=key.kind.__name__.upper(), help=text)
    return parser


def main() -> None:
    args = build_parser().parse_args()
    settings = resolve(args.config_file, {name: getattr(args, name) for name in KEYS})
    from erasure.attacks import command
    from toyworld.attack_judge import embedded_judge

    command.run(settings, args, embedded_judge)


if __name__ == "__main__":
    errors.run(main)
