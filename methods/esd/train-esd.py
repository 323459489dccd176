"""Erase a concept from a model by fine-tuning its UNet against itself (ESD, arXiv 2303.07345).

python methods/esd/train-esd.py --train_method xattn                                    # "Van Gogh", as published
python methods/esd/train-esd.py --prompt 'golf ball' --train_method noxattn             # an object, everywhere
python methods/esd/train-esd.py --prompt 'allartist' --seperator ',' --train_method xattn
python methods/esd/train-esd.py --prompt 'Van Gogh' --train_method xattn --devices '0,1' --resume
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from erasure import devices, errors, runs
from erasure.base_flags import TRAINER_BASE_FLAGS, add_trainer_base_flags, load_base
from methods.esd import BROAD_PRESETS, PRESETS, SAMPLER_MODELS, TRAIN_METHODS, WRITERS

_NOT_SETTINGS = (*TRAINER_BASE_FLAGS, "save_path", "resume", "force")


def _preset(name: str) -> str:
    sd, toy = PRESETS["sd-v1"][name], PRESETS["toy"][name]
    broad = BROAD_PRESETS["toy"].get(name, toy)
    if toy == broad == sd:
        return f"(default: {sd:g})"
    also = f", {broad:g} there for noxattn, full and their like" if broad != toy else ""
    return f"(default: {sd:g} for Stable Diffusion, {toy:g} for the embedded model{also})"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="TrainESD", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what to erase")
    what.add_argument(
        "--prompt",
        default="Van Gogh",
        help="the concept, or allartist, i2p, artifact for a list (default: %(default)s)",
    )
    what.add_argument(
        "--train_method",
        required=True,
        choices=TRAIN_METHODS,
        help="which weights are trained: xattn (the paper's ESD-x: artists), noxattn (ESD-u: objects, nudity), ...",
    )
    what.add_argument("--seperator", "--separator", help="split the prompt here into several concepts (default: none)")
    what.add_argument("--erase_from", help="a text to erase the concept from, e.g. 'cowboy' for 'cowboy hat'")

    how = parser.add_argument_group("training")
    how.add_argument("--start_guidance", type=float, help=f"guidance of the latents {_preset('start_guidance')}")
    how.add_argument("--negative_guidance", type=float, help=f"eta of the target {_preset('negative_guidance')}")
    how.add_argument("--iterations", type=int, help=f"steps of Adam {_preset('iterations')}")
    how.add_argument("--lr", type=float, help=f"learning rate {_preset('lr')}")
    how.add_argument("--ddim_steps", type=int, help=f"grid on which latents are drawn {_preset('ddim_steps')}")
    how.add_argument("--image_size", type=int, help=f"pixels a side {_preset('image_size')}")
    how.add_argument("--seed", type=int, help="makes the run repeatable (default: drawn, and saved with the run)")
    how.add_argument(
        "--sampler_model",
        choices=SAMPLER_MODELS,
        help="who draws the latents: the trained network (default) or the frozen",
    )
    how.add_argument(
        "--exact_sampling", action="store_true", help="latents as noisy as their label (published: 2-3 grid steps less)"
    )

    add_trainer_base_flags(parser)

    run = parser.add_argument_group("run")
    run.add_argument("--devices", help=devices.HELP)
    run.add_argument("--save_path", help="folder of run folders (default: models, here or in the repository)")
    run.add_argument(
        "--save_format", choices=WRITERS, help="full weights as safetensors (default) or pt, or only the small edit"
    )
    run.add_argument("--save_every", type=int, help="also keep the weights every N iterations, 0: never (default: 500)")
    run.add_argument(
        "--checkpoint_every",
        type=int,
        help=f"save the state for --resume every N iterations, 0: never {_preset('checkpoint_every')}",
    )
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    again.add_argument("--force", action="store_true", help="train again, in place of what is there")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)

    from methods.esd.settings import EsdSettings
    from methods.esd.training import train_esd

    chosen = {name: value for name, value in vars(arguments).items() if name not in _NOT_SETTINGS}
    # a mistake among the flags shows before gigabytes are read
    model, identity = load_base(arguments, before=lambda _: EsdSettings.for_family("sd-v1", **chosen))
    settings = EsdSettings.for_family(identity.family, **chosen)
    out = (Path(arguments.save_path) if arguments.save_path else runs.find("models")) / settings.run_name
    try:
        train_esd(model, identity, settings, out, resume=arguments.resume, force=arguments.force)
    except KeyboardInterrupt:
        hint = (
            "add --resume to the same command to go on"
            if (out / "checkpoint.safetensors").is_file()
            else "nothing saved"
        )
        print(f"stopped: {hint}", file=sys.stderr)
        return errors.INTERRUPTED
    from erasure.generation.next_step import print_generate_command, print_written, run_files

    print_written(run_files(out))
    print_generate_command(str(out) if arguments.save_path else out.name)
    return 0


if __name__ == "__main__":
    errors.run(main)
