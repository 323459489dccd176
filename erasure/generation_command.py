"""What the scripts that draw images share: flags, which model is meant, and a run from flags to files."""

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure import base_models
from erasure.base_models import NAMES, WEIGHTS
from erasure.errors import UserError
from erasure.generation_presets import (
    NOISE_DEVICES,
    PRESET_OF_FAMILY,
    PRESETS,
    SAMPLERS,
    GenerationSettings,
    image_folder,
)
from erasure.generation_presets import settings as preset_settings
from erasure.prompts import Row
from erasure.runs import find, print_settings

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_UCE_BASES = {"1.4": "sd-v1-4"}  # what UCE and RECE call --base
_SUFFIXES = (".safetensors", ".pt", ".ckpt", ".pth")
_SETTINGS = (
    "sampler", "steps", "guidance", "image_size", "num_samples", "noise_device", "eta", "negative_prompt",
    "row_guidance", "row_size", "naming", "default_seed", "batch_size",
)  # fmt: skip


# ---- flags ---------------------------------------------------------------------------------------------------------


def add_model_flags(parser: argparse.ArgumentParser, name_help: str) -> None:
    model = parser.add_argument_group("model")
    model.add_argument("--model_name", required=True, help=name_help)
    model.add_argument(
        "--edit", "--esd_path", "--uce_model_path", "--ckpt", action="append", default=[], metavar="FILE",
        help="an edit, a checkpoint or a run folder to put into the model on top of --model_name; may be repeated",
    )  # fmt: skip
    model.add_argument(
        "--base", "--base_model", "--ckpt_path", metavar="NAME",
        help=f"base model: {', '.join(NAMES)}, a checkpoint or a diffusers folder "
        "(default: what the edit was made for, else Stable Diffusion v1.4 if installed, else the embedded model)",
    )  # fmt: skip
    model.add_argument(
        "--config", "--config_path", metavar="YAML", help="its configuration (default: the one that fits)"
    )
    model.add_argument(
        "--weights", choices=WEIGHTS, default="auto",
        help="of a base with both: raw, which ESD starts from, or ema, which diffusers ships (default: raw)",
    )  # fmt: skip
    model.add_argument("--force", action="store_true", help="use an edit on another base than it was made for")
    model.add_argument("--device", help="cpu, cuda:0, ... (default: the first GPU, else cpu)")
    model.add_argument(
        "--dtype", choices=DTYPES, default="fp32", help="precision of the weights (default: %(default)s)"
    )


def add_image_flags(parser: argparse.ArgumentParser) -> None:
    how = parser.add_argument_group("images (defaults: the preset's)")
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
    how.add_argument("--eta", type=float, help="noise that ddim adds, 0 to 1")
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


# ---- which model ---------------------------------------------------------------------------------------------------


class NoSuchModel(UserError):
    """A name that stands for no weights."""


@dataclass
class Choice:
    """A model as flags name it."""

    label: str  # for the folder of its images
    base: str | os.PathLike | None  # None: the default base
    config: str | os.PathLike | None
    edits: list[Path] = field(default_factory=list)


def choose_model(args: argparse.Namespace) -> Choice:
    """Resolve --model_name, --base and --edit. UserError if a name stands for nothing (published: the base was used)."""
    name, base = args.model_name.strip(), _base_name(args.base)
    own = None
    if name.lower() in NAMES:
        if base is not None and _place(base) != _place(name):
            raise UserError(f"--model_name {name} and --base {args.base} are two different models; leave one out")
        base = name.lower()
    elif name.lower() != "original":
        own = find_weights(name)
    extra = [find_weights(given) for given in args.edit]
    edits = ([own] if own else []) + extra
    # a base with edits is not to share a folder with the bare base
    labels = [_label(name, own)] if own or not extra else []
    labels += [_label(given, path) for given, path in zip(args.edit, extra, strict=True)]
    config = args.config
    if base is None and edits:
        base, config = _base_of(edits[0], config)
    return Choice(_folder_name(args.exp_name or "+".join(labels)), base, config, edits)


def find_weights(name: str) -> Path:
    """The file or diffusers folder that a model name or path stands for."""
    from erasure import edits

    if name.lower().startswith("sd-v2"):
        raise UserError(f"{name}: Stable Diffusion 2 has another architecture, and only v1 can be loaded")
    folder = find(name)
    if name and (folder / "unet").is_dir():
        return folder
    path = edits.find_for(name) or (edits.find_for(Path("models") / name) if name else None)
    if path is None:
        names = ", ".join(NAMES)
        raise NoSuchModel(
            f"no model {name!r}: give original, {names}, the name of a run or file under models/, or a path"
        )
    return path


def _place(base: str) -> Path:
    return find(NAMES[base.lower()][0] if base.lower() in NAMES else base).resolve()


def _base_name(base: str | None) -> str | None:
    if base == "2.1":
        raise UserError("--base 2.1: Stable Diffusion 2 has another architecture, and only v1 can be loaded")
    return _UCE_BASES.get(base, base)


def _base_of(path: Path, config):
    """(base, configuration) for which weights were made, as far as they say; (None, config) is the default base."""
    from erasure import edits
    from erasure.checkpoint_files import shapes

    if path.is_dir():
        return None, config
    if edits.is_edit(path):
        base = edits.read_header(path)["base"]
        if base.get("path") and find(base["path"]).exists():
            own = base.get("config_path")
            return base["path"], config or (own if own and find(own).is_file() else None)
        return None, config
    widths = {shape[1] for key, shape in shapes(path).items() if key.endswith("attn2.to_k.weight")}
    if len(widths) != 1:
        return None, config
    return ("sd-v1-4" if widths == {base_models.SD_CONTEXT_DIM} else "toy"), config


def _label(name: str, path: Path | None) -> str:
    """The name of a model's folder of images: its own name, without folders and the suffix of a file."""
    last = Path(name).name
    if path is not None and last == path.name:
        last = path.parent.name if path.stem == "edit" else path.stem if path.suffix in _SUFFIXES else last
    return last


def _folder_name(name: str) -> str:
    if not name or re.search(r"[\x00-\x1f/\\]", name) or name in (".", ".."):
        raise UserError(f"{name!r} cannot name a folder of images: give one with --exp_name")
    return name


# ---- running -------------------------------------------------------------------------------------------------------


def pick_device(text: str | None) -> str:
    """The device that --device means: the published defaults (cuda:0, cuda:4, 7, ...) run on what is there."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text is None:
        return "cuda:0" if count else "cpu"
    match = re.fullmatch(r"(?:cuda:?)?(\d*)", text.strip())
    if not match:
        if text.strip() == "cpu":
            return "cpu"
        raise UserError(f"--device {text!r}: give cpu, cuda:0, or the number of a GPU")
    if not count:
        print(f"note: no GPU here that torch can use, so --device {text} becomes cpu", file=sys.stderr)
        return "cpu"
    index = int(match[1] or 0)
    if index >= count:
        print(f"note: no GPU {index} here, so --device {text} becomes cuda:0", file=sys.stderr)
        index = 0
    return f"cuda:{index}"


def load(args: argparse.Namespace, choice: Choice):
    """(model with its edits, identity for the manifest, family of the base)."""
    import torch

    from erasure import edits, runs

    device = pick_device(args.device)
    model, base = base_models.load(choice.base, choice.config, device, getattr(torch, DTYPES[args.dtype]), args.weights)
    print(f"base model: {base.name} ({base.path}, weights: {base.weights}, sha256 {base.sha256[:12]}) on {device}")
    identity: dict[str, Any] = {"base": base.to_dict(), "edits": []}
    for path in choice.edits:
        applied = edits.load_into(model, base, path, force=args.force)
        edit = applied.edit
        print(f"with {path}: {edit.label()}, {len(applied.matched)} tensors")
        identity["edits"].append(
            {
                "path": str(path),
                "kind": edit.kind,
                "method": edit.method,
                "concepts": edit.concepts if edit.kind != "checkpoint" else [],
                "sha256": runs.tensors_sha256(edit.tensors),
            }
        )
    return model, identity, base.family


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


def draw(args: argparse.Namespace, choice: Choice, rows: Sequence[Row], concept: str | None = None) -> Path:
    """Load the model, draw the images of `rows` and say what was done; returns their folder."""
    from dataclasses import asdict

    from erasure.generation import generate
    from erasure.generation_draw import resolved

    preset_settings(args.preset or "toy", **given_settings(args))  # a bad value is known before minutes of loading
    model, identity, family = load(args, choice)
    settings = resolved(settings_for(args, family, model.device.type), model)
    folder = image_folder(settings.preset, args.save_path, choice.label, concept)
    print_settings(asdict(settings) | {"rows": len(rows), "folder": folder})
    print(generate(model, rows, folder, settings, identity, overwrite=args.overwrite))
    return folder


__all__ = ["Choice", "NoSuchModel", "add_image_flags", "add_model_flags", "add_output_flags", "choose_model", "draw"]
