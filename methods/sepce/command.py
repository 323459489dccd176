"""The command line that FMN, Abconcept, CiE, SepCE and SRS_ME share: flags, base, images, a run, what it writes and prints.

A script adds its own flags and says how its objective is made:

    def build_parser():
        parser, training = command.build_parser("CiE", __doc__)
        command.add_preset_flag(training, "CiE", "threshold", "tau: training ends when the running average is below it")
        return parser

    def make_objective(model, encode, settings):         # SepceSettings; its own flags are settings["threshold"] ...
        from methods.sepce.objectives.cie import CiE
        return CiE(model, encode, settings.concepts[0], ..., iterations=settings.iter_break)

    def main(argv=None):
        return command.main(build_parser(), argv, "CiE", make_objective)

Flags that are None until the base is known take the preset of its family (`methods.sepce.PRESETS`).
"""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from erasure import devices, errors, runs
from erasure.base_flags import TRAINER_BASE_FLAGS, add_trainer_base_flags, load_base
from erasure.errors import UserError
from erasure.training.naming import name_part
from methods.sepce import CATEGORIES, WRITERS, concept_of, preset

NOT_SETTINGS = (
    *TRAINER_BASE_FLAGS, "prompt", "concepts", "seperator", "data_root", "no_draw", "save_path", "exp_name", "resume", "force"
)  # fmt: skip


# ---- flags ---------------------------------------------------------------------------------------------------------


def build_parser(method: str, description: str, concept: bool = True):
    """(parser with all the shared flags, its group "training" for a method's own).

    concept: with --prompt, --erase_cat and --erased_index.
    """
    parser = argparse.ArgumentParser(
        prog=f"{method}.py",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if concept:
        add_concept_flags(parser)
    training = parser.add_argument_group("training")
    add_preset_flag(training, method, "lr", "learning rate of Adam")
    add_preset_flag(
        training,
        method,
        "iter_break",
        "training ends after so many steps and one",
        "--iter_break",
        "--iterations",
    )
    gradients = training.add_mutually_exclusive_group()
    gradients.add_argument(
        "--zero_grad", action="store_true", help="clear gradients (published: those of all steps add up)"
    )
    gradients.add_argument("--accumulate_grad", action="store_false", dest="zero_grad", help="do not (the default)")
    training.add_argument("--seed", type=int, help="makes the run repeatable (default: drawn, and saved with the run)")
    _add_image_flags(parser, method)
    add_trainer_base_flags(parser)
    _add_run_flags(parser, method)
    return parser, training


def add_concept_flags(parser: argparse.ArgumentParser):
    """--prompt, --erase_cat, --erased_index; returns their group."""
    group = parser.add_argument_group("what to erase")
    group.add_argument("--prompt", help="the concept; the folder of its images has its name")
    group.add_argument(
        "--erase_cat",
        choices=CATEGORIES,
        help="in place of that, a published list (default: object, with --erased_index)",
    )
    lists = "; ".join(f"{category}: {', '.join(concepts)}" for category, concepts in CATEGORIES.items())
    group.add_argument("--erased_index", type=int, help=f"which of the list, from 0 on ({lists})")
    return group


def chosen_concepts(arguments: argparse.Namespace) -> list[str]:
    """The concept of --prompt, or of --erase_cat (object, which it becomes) with --erased_index. UserError for less or more."""
    if arguments.prompt is not None:
        if arguments.erase_cat is not None or arguments.erased_index is not None:
            raise UserError("--prompt names a concept, and so do --erase_cat and --erased_index: give one of them")
        return [arguments.prompt]
    if arguments.erased_index is None:
        raise UserError("name a concept: --prompt, or --erased_index with --erase_cat")
    arguments.erase_cat = arguments.erase_cat or "object"
    return [concept_of(arguments.erase_cat, arguments.erased_index)]


def add_preset_flag(group, method: str, name: str, text: str, *flags: str, **options: Any) -> None:
    """A flag whose default is the preset of the base's family; its type is that of the preset."""
    sd, toy = preset(method, "sd-v1")[name], preset(method, "toy")[name]
    default = f"{sd:g}" if sd == toy else f"{sd:g} for Stable Diffusion, {toy:g} for the embedded model"
    options = {"type": type(sd), "dest": name, "help": f"{text} (default: {default})"} | options
    group.add_argument(*(flags or (f"--{name}",)), **options)


def add_term_flags(training, method: str) -> None:
    add_preset_flag(training, method, "reg_beta", "lambda: weight of the regulariser")
    training.add_argument(
        "--momentum", type=float, default=0.9, help="of the running average that stops (default: %(default)g)"
    )
    # one image a step is little: on the embedded model, an early average below the threshold is chance
    add_preset_flag(training, method, "min_iter", "at least so many steps and one are made")


def _add_image_flags(parser: argparse.ArgumentParser, method: str) -> None:
    group = parser.add_argument_group("training images")
    group.add_argument(
        "--data_root", default="./data", help="a folder of images for each concept is in here (default: %(default)s)"
    )
    add_preset_flag(group, method, "num_images", "drawn with the base model for a concept without a folder")
    group.add_argument("--no_draw", action="store_true", help="a concept without a folder is an error")
    group.add_argument(
        "--cycle_images", action=argparse.BooleanOptionalAction,
        help="go round when the images run out, in place of ending (default: only for the embedded model)",
    )  # fmt: skip
    group.add_argument(
        "--sort_images", action=argparse.BooleanOptionalAction, default=True,
        help="take them by their numbers, and not as the system lists them (default: on)",
    )  # fmt: skip
    add_preset_flag(group, method, "image_size", "pixels a side: the middle of each image")
    add_preset_flag(group, method, "ddim_steps", "timesteps are drawn from so many equal ranges")


def _add_run_flags(parser: argparse.ArgumentParser, method: str) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--devices", help=devices.HELP)
    group.add_argument("--save_path", help="folder of run folders (default: models, here or in the repository)")
    group.add_argument("--exp_name", help="name of the run (default: the published one)")
    group.add_argument(
        "--save_format", choices=WRITERS, default=WRITERS[0],
        help="beside the edit also the published files, NAME (UNet for diffusers) and compvis-NAME (whole model), "
        "as safetensors or pt (default: %(default)s, neither)",
    )  # fmt: skip
    add_preset_flag(group, method, "checkpoint_every", "save the state for --resume every N steps, 0: never")
    again = group.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    again.add_argument("--force", action="store_true", help="train again, in place of what is there")


# ---- a run ---------------------------------------------------------------------------------------------------------


@dataclass
class Run:
    """A finished run. The model is the base."""

    settings: Any  # SepceSettings, with the seed
    folder: Any  # RunFolder; its `path` is the run's folder
    edit: Any  # Edit


@dataclass
class Task:
    """What the flags ask for, with the base in memory."""

    arguments: argparse.Namespace
    model: Any  # LatentDiffusion
    identity: Any  # BaseIdentity
    settings: Any  # SepceSettings
    folder: Path  # of the run
    make_objective: Callable
    current: Path | None = None  # folder of the run that is being trained

    def train(self, settings=None, folder: Path | None = None) -> Run:
        """Train into a run's folder, go on there or find the finished run, and write the published files that are wanted.

        In place of the task's own, other settings can be given, with another folder.
        """
        from methods.sepce.run_folder import RunFolder

        there = RunFolder(folder or self.folder, settings or self.settings, self.identity)
        self.current = there.path
        edit = _train(self.model, self.identity, there, self.arguments, self.make_objective)
        there.publish(self.model, self.identity, edit)
        return Run(there.settings, there, edit)


def train_once(task: Task, report: Callable[[Run], None] | None = None) -> list[Path]:
    """The work of most scripts; report(run) is called also for a run that was finished before."""
    run = task.train()
    if report:
        report(run)
    return [run.folder.path]


def main(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    method: str,
    make_objective: Callable,
    concepts: Callable[[argparse.Namespace], Sequence[str]] = chosen_concepts,
    work: Callable[[Task], Sequence[Path]] = train_once,
) -> int:
    """From flags to files; returns the exit code.

    make_objective(model, encode, settings) -> Objective. concepts(arguments): what is erased. work(task): trains, and returns
    the folders that were written, the one to draw with first.
    """
    arguments = parser.parse_args(argv)
    names = concepts(arguments)
    chosen = {name: value for name, value in vars(arguments).items() if name not in (*NOT_SETTINGS, "weights_of_both")}

    from methods.sepce.settings import SepceSettings

    def settings_for(family: str) -> SepceSettings:
        return SepceSettings.for_family(method, family, names, **chosen)

    model, identity = load_base(arguments, before=settings_for)  # mistakes show before gigabytes are read
    settings = settings_for(identity.family)
    name = name_part(arguments.exp_name) if arguments.exp_name else settings.run_name
    folder = (Path(arguments.save_path) if arguments.save_path else runs.find("models")) / name
    task = Task(arguments, model, identity, settings, folder, make_objective)
    try:
        folders = work(task)
    except KeyboardInterrupt:
        return errors.stopped(((task.current or folder) / "checkpoint.safetensors").is_file())

    from erasure.generation.next_step import print_generate_command, print_written, run_files

    for written in folders:
        print_written(run_files(written))
    print_generate_command(str(folders[0]) if arguments.save_path else folders[0].name)
    return 0


def _train(model, identity, folder, arguments: argparse.Namespace, make_objective: Callable):
    """The edit of the run: trained, resumed, or that of a finished run."""
    from erasure.edits import Edit
    from erasure.training.fitting import check_image_size
    from methods.sepce.images import training_images
    from methods.sepce.training import text_encoder, train

    found = folder.open(arguments.resume, arguments.force)
    if isinstance(found, Edit):
        print(f"{folder.path} holds this run, finished: nothing to train (--force trains it again)")
        return found
    settings = folder.settings
    check_image_size(model, settings.image_size)
    runs.print_settings({"method": settings.method} | settings.to_dict())
    objective = make_objective(model, text_encoder(model), settings)
    images = training_images(model, identity, settings, arguments.data_root, not arguments.no_draw)
    for concept, of_it in zip(settings.concepts, images, strict=True):
        print(f"{concept!r}: {len(of_it)} images in {of_it.folder}")
    scalars = sum(tensor.numel() for tensor in objective.trained.values())
    print(f"training {len(objective.trained)} tensors with {scalars:,} numbers; all else is frozen")
    if found is not None:
        print(f"resuming after step {len(found.rows)}")
    elif arguments.resume:
        print("nothing to resume: starting at the beginning")
    edit = train(objective, images, folder, found)
    print(folder.how_it_ended())
    return edit
