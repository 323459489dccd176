"""The command line of ESD's trainer: the flags, and what follows them. SepCE's ``Esd.py`` has the same with other defaults."""

import argparse
from collections.abc import Callable
from pathlib import Path

from erasure import devices, errors, runs
from erasure.base_flags import TRAINER_BASE_FLAGS, load_base
from erasure.training.naming import name_part
from methods.esd import BROAD_PRESETS, PRESETS, SAMPLER_MODELS, WRITERS

_NOT_SETTINGS = (*TRAINER_BASE_FLAGS, "save_path", "exp_name", "resume", "force")


def shown_preset(name: str) -> str:
    """The default of a setting, as --help says it."""
    sd, toy = PRESETS["sd-v1"][name], PRESETS["toy"][name]
    broad = BROAD_PRESETS["toy"].get(name, toy)
    if toy == broad == sd:
        return f"(default: {sd:g})"
    also = f", {broad:g} there for noxattn, full and their like" if broad != toy else ""
    return f"(default: {sd:g} for Stable Diffusion, {toy:g} for the embedded model{also})"


def add_training_flags(
    parser: argparse.ArgumentParser, shown: Callable[[str], str] = shown_preset, iterations: tuple[str, ...] = ()
) -> None:
    """shown: says the default of a setting. iterations: other names of that flag."""
    how = parser.add_argument_group("training")
    how.add_argument("--start_guidance", type=float, help=f"guidance of the latents {shown('start_guidance')}")
    how.add_argument("--negative_guidance", type=float, help=f"eta of the target {shown('negative_guidance')}")
    how.add_argument("--iterations", *iterations, type=int, help=f"steps of Adam {shown('iterations')}")
    how.add_argument("--lr", type=float, help=f"learning rate {shown('lr')}")
    how.add_argument("--ddim_steps", type=int, help=f"grid on which latents are drawn {shown('ddim_steps')}")
    how.add_argument("--image_size", type=int, help=f"pixels a side {shown('image_size')}")
    how.add_argument("--seed", type=int, help="makes the run repeatable (default: drawn, and saved with the run)")
    how.add_argument(
        "--sampler_model",
        choices=SAMPLER_MODELS,
        help="who draws the latents: the trained network (default) or the frozen",
    )
    how.add_argument(
        "--exact_sampling", action="store_true", help="latents as noisy as their label (published: 2-3 grid steps less)"
    )


def add_run_flags(
    parser: argparse.ArgumentParser, shown: Callable[[str], str] = shown_preset, save_format: str = "safetensors"
) -> None:
    """save_format: the default."""
    run = parser.add_argument_group("run")
    run.add_argument("--devices", help=devices.HELP)
    run.add_argument("--save_path", help="folder of run folders (default: models, here or in the repository)")
    run.add_argument("--exp_name", help="name of the run's folder (default: the published one)")
    run.add_argument(
        "--save_format",
        choices=WRITERS,
        help=f"full weights as safetensors or pt, or only the small edit (default: {save_format})",
    )
    run.add_argument("--save_every", type=int, help="also keep the weights every N iterations, 0: never (default: 500)")
    run.add_argument(
        "--checkpoint_every",
        type=int,
        help=f"save the state for --resume every N iterations, 0: never {shown('checkpoint_every')}",
    )
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    again.add_argument("--force", action="store_true", help="train again, in place of what is there")


def train(arguments: argparse.Namespace, for_family: Callable) -> int:
    """From parsed flags to the run's folder; returns the exit code. for_family: makes settings as `EsdSettings`'s does."""
    from methods.esd.training import train_esd

    chosen = {name: value for name, value in vars(arguments).items() if name not in _NOT_SETTINGS}
    # a mistake among the flags shows before gigabytes are read
    model, identity = load_base(arguments, before=lambda _: for_family("sd-v1", **chosen))
    settings = for_family(identity.family, **chosen)
    name = name_part(arguments.exp_name) if arguments.exp_name else settings.run_name
    out = (Path(arguments.save_path) if arguments.save_path else runs.find("models")) / name
    try:
        train_esd(model, identity, settings, out, resume=arguments.resume, force=arguments.force)
    except KeyboardInterrupt:
        return errors.stopped((out / "checkpoint.safetensors").is_file())
    from erasure.generation.next_step import print_generate_command, print_written, run_files

    print_written(run_files(out))
    print_generate_command(str(out) if arguments.save_path else out.name)
    return 0
