"""Erase one concept with a term that the prompts of its scene do not see (SRS-ME, the successor of SepCE).

python methods/sepce/SRSME_Solution.py --erase_cat style --erased_index 0 --em_indexes '1,2' --scenei 1 --timei 0
python methods/sepce/SRS_ME.py --lr 1e-1 --scale_factor 1e-4 --threshold 1e-4 --reg_beta 1e-6 --erased_index 0 --scenei 1 \\
    --timei 0 --max_base 691 --erase_cat style --devices '0,1'                                               # as published

The basis is scene/scene{S}/{T}/{index}.safetensors (or .pickle), which the first command wrote. Published: nothing is saved.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import errors
from erasure.errors import UserError
from methods.sepce import command
from methods.sepce.bases_command import file_of


def build_parser() -> argparse.ArgumentParser:
    parser, training = command.build_parser("SRS_ME", __doc__)
    for name in ("scale_factor", "threshold"):
        text = {"scale_factor": "beta: length of the basis vectors", "threshold": "tau: training ends below it"}[name]
        command.add_preset_flag(training, "SRS_ME", name, text)
    command.add_term_flags(training, "SRS_ME")
    scene = parser.add_argument_group("scene")
    scene.add_argument("--scenei", type=int, required=True, metavar="S", help="number of the scene")
    scene.add_argument("--timei", type=int, required=True, metavar="T", help="time in it")
    scene.add_argument(
        "--max_base", type=int, help="use only the first so many vectors (published: required; default: all)"
    )
    scene.add_argument("--bases_dir", default=".", help="folder of scene/ (default: the working directory)")
    return parser


def concepts(arguments: argparse.Namespace) -> list[str]:
    if arguments.prompt is not None:
        raise UserError("--prompt: a scene's concepts have numbers; SepCE.py erases any by name")
    names = command.chosen_concepts(arguments)
    scene = Path(arguments.bases_dir).expanduser() / "scene" / f"scene{arguments.scenei}" / str(arguments.timei)
    if not (file := file_of(scene, str(arguments.erased_index))).is_file():
        raise UserError(f"{file}: no such file of bases; SRSME_Solution.py writes it for the same scene")
    arguments.bases_dir = str(scene)
    return names


def make_objective(model, encode, settings):
    from dataclasses import replace

    from methods.sepce import bases, sepce_run

    file = file_of(settings["bases_dir"], str(settings["erased_index"]))
    found = sepce_run.read_for(settings.concepts[0], file, bases.encoder_id(model), settings["max_base"])
    own = settings.own | {"reg": "delta_l1", "balance": "none", "thresholds": [settings["threshold"]]}
    return sepce_run.objective(model, encode, replace(settings, own=own), [found])


def work(task):
    from methods.sepce import sepce_run

    return command.train_once(task, lambda run: sepce_run.report(run.edit))


def main(argv: list[str] | None = None) -> int:
    return command.main(build_parser(), argv, "SRS_ME", make_objective, concepts, work)


if __name__ == "__main__":
    errors.run(main)
