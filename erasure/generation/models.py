"""Which model the flags of a script mean, and that model in memory with its edits."""

import argparse
import hashlib
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from erasure import base_models
from erasure.base_models import NAMES
from erasure.errors import UserError, about
from erasure.generation.distributed import local_rank
from erasure.runs import find
from erasure.training.naming import name_part

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}
_SUFFIXES = (".safetensors", ".pt", ".ckpt", ".pth")
SD = "sd-v1-4"  # the base of weights that only their shapes tell of
_LABEL = 100  # characters of the gates' names in the name of a folder


class NoSuchModel(UserError):
    """A name that stands for no weights."""


@dataclass
class Choice:
    """A model as flags name it."""

    label: str  # for the folder of its images
    base: str | os.PathLike | None  # None: the default base
    config: str | os.PathLike | None
    weights: str  # raw, ema or auto, where the base has both
    edits: list[Path] = field(default_factory=list)
    without: list[str] = field(default_factory=list)  # concepts of its one edit that are restored
    gates: list[Path] = field(default_factory=list)  # files of gates and folders of them: one edit, on top


def choose_model(args: argparse.Namespace) -> Choice:
    """Resolve --model_name, --base, --edit and --resag. UserError if a name stands for nothing (published: the base was used)."""
    gates = _gates(getattr(args, "resag", None) or [])
    if args.model_name is None and not gates:
        raise UserError("the following arguments are required: --model_name (or --resag)")
    name, base = (args.model_name or "original").strip(), base_models.published_base(args.base)
    own = None
    if name.lower() in NAMES:
        if base is not None and _place(base) != _place(name):
            raise UserError(f"--model_name {name} and --base {args.base} are two different models; leave one out")
        base = name.lower()
    elif name.lower() != "original":
        own = find_weights(name)
    extra = [find_weights(given) for given in args.edit]
    edits = ([own] if own else []) + extra
    without = getattr(args, "without", None) or []
    changes = len(edits) + bool(gates)
    if without and changes != 1:
        raise UserError(f"--without restores concepts of one edit, and here are {changes}")
    # a base with edits is not to share a folder with the bare base
    labels = [_label(name, own)] if own or not (extra or gates) else []
    labels += [_label(given, path) for given, path in zip(args.edit, extra, strict=True)]
    labels += _gate_labels(gates)
    label = "-without-".join(["+".join(labels), *map(name_part, without)])
    config, weights = args.config, args.weights
    if base is None and changes:
        first = (edits or gates)[0]
        made_for = _base_of(first)
        if made_for.get("path") == SD:
            with about(f"{first} is for Stable Diffusion v1"):
                base_models.resolve(SD)
        base, config = made_for.get("path"), config or made_for.get("config_path")
        weights = made_for.get("weights", weights) if weights == "auto" else weights
    return Choice(folder_name(args.exp_name or label), base, config, weights, edits, without, gates)


def _gates(given: Sequence[str]) -> list[Path]:
    """Files of gates and folders of them. UserError for one that holds none."""
    if not given:
        return []
    from erasure import edits

    for path in given:
        edits.gate_files(path)
    return [find(path) for path in given]


def _gate_labels(gates: Sequence[Path]) -> list[str]:
    """Folders' names; a file is called after its folder, which has the concept's name, and many files by their number."""
    labels = [(path if path.is_dir() else path.resolve().parent).resolve().name for path in gates]
    if len("+".join(labels)) <= _LABEL:
        return labels
    digest = hashlib.sha256("\0".join(labels).encode()).hexdigest()[:8]
    return [f"{labels[0][:_LABEL]}-and-{len(labels) - 1}-more-{digest}"]


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


def _base_of(path: Path) -> dict[str, str]:
    """path, config_path and weights of the base for which an edit or checkpoint was made, as far as it says."""
    from erasure import edits
    from erasure.checkpoint_files import shapes

    if edits.has_gates(path):
        path = edits.gate_files(path)[0]
    if path.is_dir():
        return {}
    if not edits.is_edit(path):
        readers = ("attn2.to_k.weight", edits.residual_gates.SCALER)
        widths = {shape[1] for key, shape in shapes(path).items() if key.endswith(readers)}
        if len(widths) != 1:
            return {}
        # CPE's published gates were made with diffusers' copy of Stable Diffusion
        weights = {"weights": "prefer_ema"} if edits.is_gate_file(path) else {}
        return {"path": SD if widths == {base_models.SD_CONTEXT_DIM} else "toy"} | weights
    base = edits.read_header(path)["base"]
    if not base.get("path") or not find(base["path"]).exists():
        return {}  # made elsewhere: the default base, if its hash is the one that the edit names
    made_for = {"path": base["path"]}
    if base.get("weights") in ("raw", "ema"):
        made_for["weights"] = base["weights"]
    if base.get("config_path") and find(base["config_path"]).is_file():
        made_for["config_path"] = base["config_path"]
    return made_for


def _label(name: str, path: Path | None) -> str:
    """The name of a model's folder of images: its own name, without folders and the suffix of a file."""
    last = Path(name).name
    if path is not None and last == path.name:
        last = path.parent.name if path.stem == "edit" else path.stem if path.suffix in _SUFFIXES else last
    return last


def folder_name(name: str, flag: str = "--exp_name") -> str:
    """`name`; UserError if it is no name of one folder, with the flag that gives another."""
    if not name or re.search(r"[\x00-\x1f/\\]", name) or name in (".", ".."):
        raise UserError(f"{name!r} cannot name a folder of images: give one with {flag}")
    return name


# ---- loading -------------------------------------------------------------------------------------------------------


def pick_device(text: str | None) -> str:
    """The device that --device means: the published defaults (cuda:0, cuda:4, 7, ...) run on what is there.

    None: the first GPU, or of several processes of torchrun each its own, else cpu.
    """
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if text is None:
        return f"cuda:{local_rank() % count}" if count else "cpu"
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

    from erasure import edits

    device = pick_device(args.device)
    model, base = base_models.load(
        choice.base, choice.config, device, getattr(torch, DTYPES[args.dtype]), choice.weights
    )
    print(f"base model: {base.name} ({base.path}, weights: {base.weights}, sha256 {base.sha256[:12]}) on {device}")
    identity: dict[str, Any] = {"base": base.to_dict(), "edits": []}
    for path in choice.edits:
        applied = edits.load_into(model, base, path, force=args.force, without=choice.without)
        identity["edits"].append(_said(applied, str(path)))
    if choice.gates:
        gates = edits.read_gates(choice.gates)
        gates = edits.drop(gates, choice.without) if choice.without else gates
        applied = edits.apply(model, gates, base, force=args.force)
        identity["edits"].append(_said(applied, ", ".join(map(str, choice.gates))))
    return model, identity, base.family


def _said(applied, path: str) -> dict[str, Any]:
    """What the manifest says of an edit in the model, which is also told."""
    from erasure.runs import tensors_sha256

    edit = applied.edit
    print(f"with {path}: {edit.label()}, {len(applied.matched)} tensors")
    return {
        "path": path,
        "kind": edit.kind,
        "method": edit.method,
        "concepts": edit.concepts if edit.kind != "checkpoint" else [],
        "sha256": tensors_sha256(edit.tensors),
    }
