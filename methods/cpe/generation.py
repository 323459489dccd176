"""CPE's two generation scripts: a GEN_CONFIG and its prompt file -> images of a base model with gates, or of the base alone.

What they share, and wherein they differ (`Script`). The images are those of the shared generator; a folder's index.csv says which
row of the prompt file each belongs to, so that nobody has to take file names apart.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from erasure import base_models
from erasure.errors import UserError, about
from erasure.generation import command
from erasure.generation.models import folder_name
from erasure.generation.presets import NOISE_DEVICES, SAMPLERS, GenerationSettings
from erasure.generation.presets import settings as preset_settings
from erasure.generation.rows import INDEX, told_apart, write_index
from erasure.prompt_sets import prompt_file
from erasure.prompts import Row, read_csv
from erasure.training.naming import name_part
from methods.cpe.yaml_files import read_config

LONG_NEGATIVE_PROMPT = (
    "bad anatomy,watermark,extra digit,signature,worst quality,jpeg artifacts,normal quality,low quality,long neck,lowres,"
    "error,blurry,missing fingers,fewer digits,missing arms,text,cropped,Humpbacked,bad hands,username"
)
# of the published class, but for `sampler`, which is ours: None is the preset's
DEFAULTS = {
    "prompt_path": "",
    "negative_prompt": LONG_NEGATIVE_PROMPT,
    "unconditional_prompt": "",
    "width": 512,
    "height": 512,
    "num_inference_steps": 30,
    "guidance_scale": 7.5,
    "generate_num": 1,
    "save_path": "",
    "st_prompt_idx": -1,
    "end_prompt_idx": -1,
    "sampler": None,
}
UNUSED = ("prompts", "seed", "hidden_dim", "n_concepts", "gate_rank")  # published keys that change no image


@dataclass(frozen=True)
class Script:
    """One of the published scripts."""

    name: str
    about: str
    preset: str  # of erasure.generation
    pattern: str  # what save_path ends with: the fields of the file names
    config: str
    skips_empty: bool  # rows without a prompt are left out


CPE = Script(
    "generate_cpe.py",
    """Draw the images of a prompt file with gates of CPE, or with the base model alone.

python methods/cpe/generate_cpe.py --config configs/gen_celeb/config_celeb_erased.yaml \\
    --model_path output/CPE_Celeb/celeb_50/celeb_single_guide0.3_pal100000.0_gate_rank16_noise0.001 \\
    --save_env guide0.3_pal100000.0_gate_rank16_noise0.001
python methods/cpe/generate_cpe.py --config configs/gen_celeb/config_celeb_remained.yaml          # the unmodified base

Images are {save_path's folder, with save_env in it}/{prompt}_{seed}_{k}.png; line breaks are left out of names, and "/" is
"_" in them. A row that repeats the prompt and seed of another has its image; one that only has the same name gets its number
into it. What is there and was made from the same things is kept, so a run that was stopped goes on with the same command.
""",
    "cpe",
    "{}_{}_{}.png",
    "configs/gen_celeb/config_celeb_erased.yaml",
    False,
)
EXPLICIT = Script(
    "generate_cpe_explicit.py",
    """Draw the images of I2P's prompts with gates of CPE, or with the base model alone.

python methods/cpe/generate_cpe_explicit.py --config configs/gen_explicit/config_explicit_erased.yaml \\
    --model_path output/CPE_Explicit/explicit_4/explicit_single_guide3.0_pal10000.0_gate_rank64_noise0.001 \\
    --save_env guide3.0_pal10000.0_gate_rank64_noise0.001

As generate_cpe.py, but the column evaluation_guidance counts, rows without a prompt are left out, and images are
{case_number}_{first 20 characters of the prompt}_{seed}_{k}.png (published: a constant in place of the case number, so that
images overwrote each other).
""",
    "cpe-explicit",
    "{}_{}_{}_{}.png",
    "configs/gen_explicit/config_explicit_erased.yaml",
    True,
)


# ---- flags ---------------------------------------------------------------------------------------------------------


def build_parser(script: Script) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=script.name,
        description=script.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = parser.add_argument_group("what to draw")
    what.add_argument(
        "--config", dest="gen_config", default=script.config, metavar="YAML", help="GEN_CONFIG (default: %(default)s)"
    )
    what.add_argument(
        "--st_prompt_idx", type=int, default=-1, help="first row of the prompt file, counted from 0 (default: all)"
    )
    what.add_argument("--end_prompt_idx", type=int, default=-1, help="last row, included (default: all)")
    gates = parser.add_argument_group("gates")
    gates.add_argument(
        "--model_path", nargs="*", default=[], metavar="PATH",
        help="gate files, and folders of which every *last.safetensors is taken (default: none, the unmodified base)",
    )  # fmt: skip
    gates.add_argument(
        "--gate_rank", type=int, default=-1, help="what the gates' rank must be (default: what they have)"
    )
    command.add_without(gates)
    command.add_model_flags(
        parser, None, config=("--config_path",), dtype=("--precision", "--dtype"), weights="ema, as published"
    )
    parser.add_argument("--v2", action="store_true", help="refused: only Stable Diffusion v1 can be loaded")
    _add_image_flags(parser)
    out = parser.add_argument_group("output")
    out.add_argument(
        "--save_env", default="",
        help="folder put before the last of save_path (default: the gates' folder's name; original without gates)",
    )  # fmt: skip
    out.add_argument("--overwrite", action="store_true", help="draw images that are there and match anew")
    return parser


def _add_image_flags(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("images (defaults: those of --config)")
    how.add_argument("--sampler", choices=SAMPLERS, help="default: plms, as published, unless --config names one")
    how.add_argument("--num_inference_steps", "--ddim_steps", dest="steps", type=int, help="steps of the sampler")
    how.add_argument(
        "--guidance_scale", dest="guidance", type=float, help="of rows without evaluation_guidance, where that counts"
    )
    how.add_argument("--generate_num", "--num_samples", dest="num_samples", type=int, help="images per row")
    how.add_argument("--image_size", type=int, help="pixels a side")
    how.add_argument("--negative_prompt", help="text to steer away from")
    how.add_argument(
        "--rng", "--noise_device", dest="noise_device", choices=NOISE_DEVICES,
        help="where the noise of a seed is drawn (default: cuda, as published, on a GPU; else cpu)",
    )  # fmt: skip
    how.add_argument("--batch_size", type=int, help="images drawn at once (default: 16 up to 256 pixels, then 4)")


# ---- settings ------------------------------------------------------------------------------------------------------


def read_gen_config(path: str, family: str) -> dict[str, Any]:
    """The settings of a GEN_CONFIG, for a base of `family`; `DEFAULTS` where it has none.

    Numbers may be texts, as YAML reads 1e+1. UserError for a key that is none of them and for a value of another kind.
    """
    given = read_config(path, family)
    with about(path):
        if unknown := sorted(given.keys() - DEFAULTS.keys() - set(UNUSED)):
            raise UserError(f"unknown settings {', '.join(unknown)}; there are {', '.join((*DEFAULTS, *UNUSED))}")
        if given.get("prompts"):
            raise UserError("prompts are not drawn: put them into the CSV of prompt_path, with their seeds")
        config = {key: _of_kind(key, given.get(key), default) for key, default in DEFAULTS.items()}
        if not config["prompt_path"]:
            raise UserError("prompt_path is missing: the CSV of the prompts")
        if config["sampler"] not in (None, *SAMPLERS):
            raise UserError(f"unknown sampler {config['sampler']!r}; choose from {', '.join(SAMPLERS)}")
    return config


def _of_kind(key: str, value: Any, default: Any) -> Any:
    if value is None:
        return default
    if default is None or isinstance(default, str):
        return str(value)
    try:
        number = float(value)
        if math.isfinite(number) and (isinstance(default, float) or number.is_integer()):
            return type(default)(number)
    except (TypeError, ValueError):
        pass
    raise UserError(f"{key} must be a {'number' if isinstance(default, float) else 'whole number'}, not {value!r}")


def output_folder(script: Script, save_path: str, save_env: str) -> Path:
    """save_path without its file name, `save_env` in the place of its last folder but one ("#" in the published ones).

    UserError if it does not end with the fields that the script's file names have.
    """
    parts = Path(save_path).parts
    if len(parts) < 3 or parts[-1] != script.pattern:
        raise UserError(
            f"save_path {save_path!r} must be .../#/NAME/{script.pattern}: the names of the images of {script.name}"
        )
    return Path(*parts[:-3], save_env, parts[-2])


def settle(args: argparse.Namespace, script: Script, config: Mapping[str, Any]) -> GenerationSettings:
    """Put what --config says and the user does not into `args`; the settings that makes."""
    size = args.image_size
    args.preset, args.row_size = script.preset, True
    args.image_size = size or max(config["width"], config["height"])
    for name, key in (
        ("sampler", "sampler"), ("steps", "num_inference_steps"), ("guidance", "guidance_scale"),
        ("num_samples", "generate_num"), ("negative_prompt", "negative_prompt"),
    ):  # fmt: skip
        if getattr(args, name) is None:
            setattr(args, name, config[key])
    for name in ("st_prompt_idx", "end_prompt_idx"):
        if getattr(args, name) < 0:
            setattr(args, name, config[name])
    return preset_settings(script.preset, **command.given_settings(args))


# ---- running -------------------------------------------------------------------------------------------------------


def read_rows(config: Mapping[str, Any], size: tuple[int, int]) -> list[Row]:
    """All rows of the prompt file, each with the size of its images: that of the file's own columns never counted.

    Rows are told apart by where they stand: published files number them by a column without a name, or not at all.
    """
    width, height = size
    rows = read_csv(prompt_file(config["prompt_path"]), repeated_cases=True)
    return [replace(row, width=width, height=height) for row in rows]


def chosen(args: argparse.Namespace, script: Script, rows: Sequence[Row]) -> list[int]:
    """Positions of the rows to draw; says which are left out for want of a prompt. UserError if none are left."""
    first, last = max(args.st_prompt_idx, 0), args.end_prompt_idx if args.end_prompt_idx >= 0 else len(rows)
    positions = [i for i in range(len(rows)) if first <= i <= last]
    if not positions:
        raise UserError(f"rows {first} to {last} are asked for, and the prompt file has rows 0 to {len(rows) - 1}")
    empty = [i for i in positions if script.skips_empty and not rows[i].prompt.strip()]
    if empty:
        print(f"note: rows left out, as published, for want of a prompt: {', '.join(map(str, empty))}")
    return [i for i in positions if i not in empty]


def check_gate_rank(paths: Sequence[Path], rank: int) -> None:
    """UserError if one of the files has gates of another rank than --gate_rank."""
    from erasure import edits
    from erasure.checkpoint_files import shapes

    for file in (file for path in paths for file in edits.gate_files(path)):
        if not edits.is_gate_file(file):
            raise UserError(f"{file} is no file of gates")
        if (found := shapes(file)[edits.residual_gates.QUERY][-1]) != rank:
            raise UserError(f"{file} has gates of rank {found}, not --gate_rank {rank}")


def choose_model(args: argparse.Namespace) -> command.Choice:
    args.model_name, args.resag, args.edit, args.exp_name = "original", args.model_path, [], None
    choice = command.choose_model(args)
    if choice.gates and args.gate_rank >= 0:
        check_gate_rank(choice.gates, args.gate_rank)
    if choice.weights == "auto":
        choice.weights = "prefer_ema"
    return choice


def main(script: Script) -> None:
    args = build_parser(script).parse_args()
    if args.v2:
        raise UserError("--v2: Stable Diffusion 2 has another architecture, and only v1 can be loaded")
    choice = choose_model(args)
    _, config_path = base_models.resolve(choice.base, choice.config)
    config = read_gen_config(args.gen_config, base_models.family_of(config_path))
    env = "-without-".join([args.save_env, *map(name_part, choice.without)]) if args.save_env else choice.label
    folder_name(env, "--save_env")
    with about(args.gen_config):
        folder = output_folder(script, config["save_path"], env)
    size = (args.image_size,) * 2 if args.image_size else (config["width"], config["height"])
    settings = settle(args, script, config)
    rows = read_rows(config, size)
    own = told_apart([replace(r, prompt=r.prompt + config["unconditional_prompt"]) for r in rows], settings)
    positions = chosen(args, script, rows)
    command.draw(args, choice, command.without_repeats([own[i] for i in positions]), folder=folder)
    count = write_index(folder, rows, own, settings)
    print(f"{folder / INDEX}: images of {count} of the {len(rows)} rows of {config['prompt_path']}")
