"""Erase a concept by training the text's keys and values to answer it as they answer a neutral text.

python methods/mymethod/train.py                                                # "Van Gogh", towards "art"
python methods/mymethod/train.py --concept 'golf ball' --neutral 'an object'
python methods/mymethod/train.py --concept 'Van Gogh' --preserve 'Picasso, Cezanne' --seed 0
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from erasure import errors, runs
from erasure.base_flags import add_base_flags, load_base
from erasure.training.naming import name_part
from methods.mymethod import PRESERVED, PRESETS

SETTINGS = ("concept", "neutral", "preserve", "preserve_scale", "iterations", "lr", "seed", "checkpoint_every")


def shown(name: str) -> str:
    """The default of a setting, as --help says it."""
    return (
        f"(default: {PRESETS['sd-v1'][name]:g} for Stable Diffusion, {PRESETS['toy'][name]:g} for the embedded model)"
    )


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="train.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    what = parser.add_argument_group("what to erase")
    what.add_argument("--concept", default="Van Gogh", help="a style, an object, a person (default: %(default)s)")
    what.add_argument("--neutral", help="what is drawn instead: art, an object, a person (default: art)")
    always = ", ".join(map(repr, PRESERVED))
    what.add_argument("--preserve", help=f"other texts that are to stay, a comma list (always: {always})")
    how = parser.add_argument_group("training")
    how.add_argument("--preserve_scale", type=float, help="weight of the texts that are to stay (default: 3)")
    how.add_argument("--iterations", type=int, help=f"steps of Adam {shown('iterations')}")
    how.add_argument("--lr", type=float, help=f"learning rate {shown('lr')}")
    how.add_argument("--seed", type=int, help="makes the run repeatable (default: drawn, and saved with the run)")
    add_base_flags(parser, device="the first GPU")
    run = parser.add_argument_group("run")
    run.add_argument("--save_path", help="folder of run folders (default: models, here or in the repository)")
    run.add_argument("--exp_name", help="name of the run's folder (default: the method's and the concept's)")
    run.add_argument(
        "--checkpoint_every", type=int, help="save the state for --resume every N iterations, 0: never (default: 100)"
    )
    again = run.add_mutually_exclusive_group()
    again.add_argument("--resume", action="store_true", help="go on where a killed run stopped")
    again.add_argument("--force", action="store_true", help="train again, in place of what is there")
    return parser


def main(argv: list[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    from methods.mymethod.settings import Settings

    chosen = {name: getattr(arguments, name) for name in SETTINGS}
    # a mistake among the flags shows before gigabytes are read
    model, identity = load_base(arguments, before=lambda family: Settings.for_family(family, **chosen))
    settings = Settings.for_family(identity.family, **chosen)
    name = name_part(arguments.exp_name) if arguments.exp_name else settings.run_name
    out = (Path(arguments.save_path) if arguments.save_path else runs.find("models")) / name

    from methods.mymethod.training import train

    try:
        train(model, identity, settings, out, arguments.resume, arguments.force)
    except KeyboardInterrupt:
        return errors.stopped((out / "checkpoint.safetensors").is_file())
    from erasure.generation.next_step import print_generate_command, print_written, run_files

    print_written(run_files(out))
    print_generate_command(str(out) if arguments.save_path else out.name)
    return 0


if __name__ == "__main__":
    errors.run(main)
