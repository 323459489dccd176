"""What the scripts that draw images share: their flags, and a run from flags to files."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from erasure.base_models import NAMES, WEIGHTS
from erasure.errors import UserError
from erasure.generation.models import DTYPES, Choice, NoSuchModel, choose_model, find_weights, load
from erasure.generation.presets import (
    NAMINGS,
    NOISE_DEVICES,
    PRESET_OF_FAMILY,
    PRESETS,
    SAMPLERS,
    GenerationSettings,
    image_folder,
)
from erasure.generation.presets import settings as preset_settings
from erasure.generation.rows import told_apart
from erasure.prompt_sets import prompt_file
from erasure.prompts import Row, read_csv
from erasure.runs import print_settings

_SETTINGS = (
    "sampler", "steps", "guidance", "image_size", "num_samples", "noise_device", "eta", "negative_prompt",
    "row_guidance", "row_size", "naming", "default_seed", "batch_size",
)  # fmt: skip
_SHORT = {long: short for short, long in DTYPES.items()}


# ---- flags ---------------------------------------------------------------------------------------------------------


def add_model_flags(
    parser: argparse.ArgumentParser,
    name_help: str | None,
    config: Sequence[str] = ("--config", "--config_path"),
    dtype: Sequence[str] = ("--dtype",),
    weights: str = "raw",
) -> None:
    """name_help: of --model_name; None leaves it and what it can be changed by out, for a script that sets them.

    config, dtype: what the base's configuration and precision are called, where the script has other names for them.
    weights: what help says of the default of --weights.
    """
    model = parser.add_argument_group("model")
    if name_help:
        model.add_argument("--model_name", help=f"{name_help}; not needed with --resag")
        model.add_argument(
            "--edit", "--esd_path", "--uce_model_path", "--ckpt", action="append", default=[], metavar="FILE",
            help="an edit, a checkpoint or a run folder to put into the model on top of --model_name; may be repeated",
        )  # fmt: skip
        model.add_argument(
            "--resag", nargs="+", action="extend", default=[], metavar="PATH",
            help="gate files of CPE and folders of them, which act together on top of the rest; may be repeated",
        )  # fmt: skip
        add_without(model)
    model.add_argument(
        "--base", "--base_model", "--ckpt_path", metavar="NAME",
        help=f"base model: {', '.join(NAMES)}, a checkpoint or a diffusers folder "
        "(default: what the edit was made for, else Stable Diffusion v1.4 if installed, else the embedded model)",
    )  # fmt: skip
    model.add_argument(*config, dest="config", metavar="YAML", help="its configuration (default: the one that fits)")
    model.add_argument(
        "--weights", choices=WEIGHTS, default="auto",
        help=f"of a base with both: raw, which ESD starts from, or ema, which diffusers ships (default: {weights})",
    )  # fmt: skip
    model.add_argument("--force", action="store_true", help="use an edit on another base than it was made for")
    model.add_argument(
        "--device", help="cpu, cuda:0, ... (default: the first GPU, or a GPU for each process of torchrun, else cpu)"
    )
    model.add_argument(
        *dtype, dest="dtype", type=lambda name: _SHORT.get(name, name), choices=DTYPES, default="fp32",
        help="precision of the weights, by this name or a long one such as float16 (default: %(default)s)",
    )  # fmt: skip


def add_without(group) -> None:
    group.add_argument(
        "--without", action="append", metavar="CONCEPT",
        help="leave this concept out of a separable edit or of gates, which restores it; may be repeated",
    )  # fmt: skip


def add_row_flags(parser: argparse.ArgumentParser) -> None:
    rows = parser.add_argument_group("rows")
    rows.add_argument(
        "--prompts_path", required=True, help="CSV with columns prompt, evaluation_seed[, case_number, ...]"
    )
    rows.add_argument("--from_case", type=int, default=0, help="smallest case number (default: %(default)s)")
    rows.add_argument("--till_case", type=int, default=None, help="largest case number, included (default: none)")
    rows.add_argument("--df_start", type=int, default=0, help="first row by position (default: %(default)s)")
    rows.add_argument("--df_length", type=int, default=None, help="number of rows (default: all)")
    rows.add_argument("--default_seed", type=int, help="seed for a CSV without a column of seeds")


def add_column_flags(parser: argparse.ArgumentParser) -> None:
    columns = parser.add_argument_group("columns and names (defaults: the preset's)")
    columns.add_argument(
        "--use_row_guidance", dest="row_guidance", action=argparse.BooleanOptionalAction, default=None,
        help="take the guidance from the column evaluation_guidance where it is filled",
    )  # fmt: skip
    columns.add_argument(
        "--use_row_size", dest="row_size", action=argparse.BooleanOptionalAction, default=None,
        help="take the size from the columns width and height where they are filled",
    )  # fmt: skip
    columns.add_argument("--naming", choices=NAMINGS, help="file names: case is {case_number}_{k}.png")


def add_image_flags(parser: argparse.ArgumentParser, eta_flag: str = "--eta") -> None:
    """eta_flag: what DDIM's noise is called where --eta is something else."""
    of_presets = (f"{name}: {p.sampler}, {p.steps} steps, guidance {p.guidance:g}" for name, p in PRESETS.items())
    how = parser.add_argument_group("images", f"Defaults are the preset's. {'. '.join(of_presets)}.")
    how.add_argument(
        "--preset", choices=PRESETS,
        help="settings as a family published them (default: esd for Stable Diffusion, toy for the embedded model)",
    )  # fmt: skip
    how.add_argument("--sampler", choices=SAMPLERS)
    how.add_argument("--ddim_steps", "--num_inference_steps", dest="steps", type=int, help="steps of the sampler")
    how.add_argument("--guidance_scale", dest="guidance", type=float, help="classifier-free guidance")
    how.add_argument("--image_size", type=int, help="pixels a side (default: what the model was trained on)")
    how.add_argument(
        "--num_samples", "--num_images_per_prompt", dest="num_samples", type=int, help="images per row (default: 1)"
    )
    how.add_argument("--negative_prompt", help="text to steer away from (default: none)")
    how.add_argument(eta_flag, dest="eta", type=float, help="noise that ddim adds, 0 to 1")
    how.add_argument("--noise_device", choices=NOISE_DEVICES, help="where the noise of a seed is drawn")
    how.add_argument("--batch_size", type=int, help="images drawn at once (default: 16 up to 256 pixels, then 4)")


def add_output_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    out = parser.add_argument_group("output")
    out.add_argument("--save_path", required=True, help="images are {save_path}/{model_name}/{case_number}_{k}.png")
    out.add_argument("--exp_name", help="name of the folder in place of the model's")
    out.add_argument("--overwrite", action="store_true", help="draw images that are there and match anew")
    return out


def given_settings(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of images that the user named."""
    return {name: getattr(args, name) for name in _SETTINGS if getattr(args, name, None) is not None}


# ---- running -------------------------------------------------------------------------------------------------------


def choose_rows(args: argparse.Namespace) -> list[Row]:
    """The rows of the CSV that the flags ask for."""
    default_seed = args.default_seed
    if default_seed is None and args.preset:
        default_seed = PRESETS[args.preset].default_seed
    rows = read_csv(prompt_file(args.prompts_path), default_seed)
    drawn = told_apart(rows, preset_settings(args.preset or "toy", **given_settings(args)))
    if args.df_start < 0 or (args.df_length is not None and args.df_length < 1):
        raise UserError("--df_start must not be negative, and --df_length must be at least 1")
    pairs = list(zip(rows, drawn, strict=True))[args.df_start :][: args.df_length]
    last = args.till_case if args.till_case is not None else max((row.case_number for row, _ in pairs), default=0)
    chosen = [own for row, own in pairs if args.from_case <= row.case_number <= last]
    if not chosen:
        raise UserError(f"{args.prompts_path}: none of its rows is left by --from_case, --till_case and --df_start")
    return without_repeats(chosen)


def settings_for(args: argparse.Namespace, family: str, device_type: str) -> GenerationSettings:
    """The preset of the base's family, or the one named, with the user's flags on top."""
    given = given_settings(args)
    name = args.preset or PRESET_OF_FAMILY[family]
    settings = preset_settings(name, **given)
    if settings.noise_device == "cuda" and device_type == "cpu" and "noise_device" not in given:
        print(
            f"note: {name} drew its noise on a GPU; here it is drawn on the cpu: other images per seed", file=sys.stderr
        )
        settings = preset_settings(name, **given, noise_device="cpu")
    return settings


def without_repeats(rows: Sequence[Row]) -> list[Row]:
    """Each row once, of those that `told_apart` gives for several; says how many that leaves out."""
    once = list({id(row): row for row in rows}.values())
    if len(once) < len(rows):
        repeats = len(rows) - len(once)
        print(f"note: rows that repeat the prompt and seed of another, whose images are theirs: {repeats}")
    return once


def draw(
    args: argparse.Namespace,
    choice: Choice,
    rows: Sequence[Row],
    concept: str | None = None,
    folder: Path | None = None,
) -> Path:
    """Load the model, draw the images of `rows` and say what was done; returns their folder.

    Processes that torchrun started draw them together: each has to call this.

    folder: in place of the one that the preset makes of --save_path, the choice's label and the concept.
    """
    from dataclasses import asdict

    from erasure.generation import distributed, generate
    from erasure.generation.drawing import resolved

    preset_settings(args.preset or "toy", **given_settings(args))  # a bad value is known before minutes of loading
    model, identity, family = load(args, choice)
    settings = resolved(settings_for(args, family, model.device.type), model)
    folder = folder or image_folder(settings.preset, args.save_path, choice.label, concept)
    print_settings(asdict(settings) | {"rows": len(rows), "folder": folder})
    print(generate(model, rows, folder, settings, identity, overwrite=args.overwrite, ranks=distributed.join()))
    return folder


__all__ = [
    "Choice",
    "NoSuchModel",
    "add_column_flags",
    "add_image_flags",
    "add_model_flags",
    "add_output_flags",
    "add_row_flags",
    "add_without",
    "choose_model",
    "choose_rows",
    "draw",
    "find_weights",
    "without_repeats",
]
