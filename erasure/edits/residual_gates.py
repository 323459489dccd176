"""Edits that are residual attention gates, one set per concept (CPE): files in the published format, in a model, put together.

A file holds 99 tensors for Stable Diffusion v1 (CPE's `{name}_last.safetensors`): the gate, and of each key and value projection
a residual of low rank, under diffusers' names with a leading axis of concepts. Files made here say besides, in their header, what
every edit says; of a published one the base is not known, and names and shapes are all that can be checked.

An edit of several concepts is their tensors stacked. What is left of it after leaving concepts out is bit for bit the edit of
the rest, and a model without any is the base: nothing is added to its weights.
"""

import json
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from erasure import key_maps
from erasure.edits import files
from erasure.edits.applying import UNET, Attached, few, register_kind
from erasure.edits.context_maps import PROJECTIONS, context_projections
from erasure.edits.files import Edit
from erasure.errors import UserError, about
from erasure.runs import find
from ldm.modules.residual_gate import Gates, attach

KIND = "residual_gates"
GATE = "attention_gate.encoder_layer.slf_attn."
QUERY, KEY, SCALER = (
    GATE + name for name in ("attention_module1.w_qs.weight", "attention_module1.w_ks.weight", "gate.scaler.weight")
)
LAYER = "lora_unet_"
DOWN, UP, ALPHA = ".lora_down.weight", ".lora_up.weight", ".alpha"
LAST, NOT_GATES = "last.safetensors", "adv_prompts"  # in file names, as CPE's generator chooses them


# ---- names ---------------------------------------------------------------------------------------------------------


def layer_names(unet_keys: Iterable[str]) -> dict[str, str]:
    """Projection of a CompVis UNet, without .weight -> its layer in a file.

    ``input_blocks.1.1.transformer_blocks.0.attn2.to_k -> lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k``,
    for a UNet of any number of levels and blocks. The order is the published modules': down, up, middle.
    """
    names = {
        old.removesuffix(".weight"): new.removesuffix(".weight")
        for old, new in key_maps.unet_keys_map(unet_keys).items()
        if old.endswith(PROJECTIONS)
    }
    order = sorted(names, key=lambda old: names[old].startswith("mid_block"))
    return {old: LAYER + names[old].replace(".", "_") for old in order}


def layers_of(tensors: Iterable[str]) -> list[str]:
    """The layers that the tensors of a file name, in their order."""
    return [name.removesuffix(UP) for name in tensors if name.endswith(UP)]


# ---- files ---------------------------------------------------------------------------------------------------------


def is_gate_file(path: str | os.PathLike) -> bool:
    """Whether a .safetensors file holds gates, by the names of its tensors; never raises for what is not."""
    return find(path).suffix == ".safetensors" and SCALER in _tensor_names(find(path))


def gate_files(path: str | os.PathLike) -> list[Path]:
    """A file of gates itself, or those of a folder and of the folders in it: ``*last.safetensors``, by path.

    UserError if there is none.
    """
    path = find(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"{path}: no such file or folder of gates")
    found = _gates_in(path)
    if not found:
        raise UserError(f"{path}: no file *{LAST} in it or in its folders")
    return found


def has_gates(path: Path) -> bool:
    """Whether a folder, or one of the folders in it, has files of gates."""
    return path.is_dir() and bool(_gates_in(path))


def _gates_in(folder: Path) -> list[Path]:
    return sorted(file for depth in ("*", "*/*") for file in folder.glob(depth + LAST) if NOT_GATES not in file.name)


def read_gates(paths: str | os.PathLike | Iterable[str | os.PathLike]) -> Edit:
    """The edit of all files of gates in `paths`, each a file or a folder (`gate_files`).

    UserError for what is no such file, and for files that do not go together.
    """
    paths = [paths] if isinstance(paths, (str, os.PathLike)) else list(paths)
    edits = [_read(file) for path in paths for file in gate_files(path)]
    if not edits:
        raise UserError("no files of gates are given")
    return united(edits)


def _read(path: Path) -> Edit:
    from erasure.checkpoint_files import read_tensors

    with about(path):
        if files.is_edit(path):
            edit = files.read(path)
            if edit.kind != KIND:
                raise UserError(f"{edit.label()}, not gates")
            _check(edit.tensors, edit.concepts)
            return edit
        tensors = read_tensors(path)
        _check(tensors)
        return _published(path, tensors, files.metadata(path))


def _published(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, str]) -> Edit:
    """A file of CPE's, which read rank and alpha of the metadata. UserError if the tensors have others."""
    layer = layers_of(tensors)[0]
    for name, value in (("rank", _rank(tensors, layer)), ("alpha", _alpha(tensors, layer))):
        if not _says(header.get(name), value):
            raise UserError(f"damaged: its header says {name} {header[name]}, its tensors {value:g}")
    count, prompts = len(tensors[SCALER]), header.get("prompts", "")
    concepts = [prompts] if count == 1 and prompts else prompts.split(",")  # a single one may have a comma in it
    if len(concepts) != count or "" in concepts:
        folder = path.resolve().parent.name.replace("_", " ")
        concepts = [folder] if count == 1 and folder else [f"{path.name} {n}" for n in range(count)]
    return Edit("cpe", concepts, {}, {}, dict(tensors), KIND)


def _says(text: str | None, value: float) -> bool:
    """Whether a cell of a header is this number, or not there."""
    try:
        return text is None or float(text) == value
    except ValueError:
        return False


def _tensor_names(path: Path) -> set[str]:
    """Names in a .safetensors file, from its header alone."""
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            return set(json.loads(file.read(size))) if size < 1 << 24 else set()
    except (OSError, ValueError, TypeError, RecursionError):
        return set()


def _check(tensors: Mapping[str, Tensor], concepts: Sequence[str] | None = None) -> None:
    """UserError for tensors that are not the gates and residuals of N concepts, or of others than `concepts`."""
    parts = (DOWN, UP, ALPHA)
    layers = list(dict.fromkeys(name.removesuffix(part) for name in tensors for part in parts if name.endswith(part)))
    wanted = [QUERY, KEY, SCALER, *(layer + part for layer in layers for part in parts)]
    if missing := [name for name in wanted if name not in tensors]:
        raise UserError(f"not gates and residuals: {few(missing)} is missing")
    if others := sorted(tensors.keys() - set(wanted)):
        raise UserError(f"not gates and residuals: also has {few(others)}")
    if not layers:
        raise UserError("not gates and residuals: no layer has a residual")
    if empty := sorted(name for name, tensor in tensors.items() if not tensor.numel()):
        raise UserError(f"not gates and residuals: {few(empty)} has no values")
    count, width, _ = _shape(tensors, QUERY)
    if concepts is not None and len(concepts) != count:
        raise UserError(f"the gates of {count} concepts, and the header names {len(concepts)}")
    expected = {KEY: (count, width, tensors[QUERY].shape[2]), SCALER: (count, width, 1)}
    for layer in layers:
        _, rank, out = _shape(tensors, layer + UP)
        expected |= {layer + DOWN: (count, width, rank), layer + UP: (count, rank, out), layer + ALPHA: ()}
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise UserError(
                f"not the gates of {count} concepts: {name} is {list(tensors[name].shape)}, not {list(shape)}"
            )
    if len({_rank(tensors, layer) for layer in layers}) > 1 or len({_alpha(tensors, layer) for layer in layers}) > 1:
        raise UserError("the layers have residuals of different rank or alpha")


def _shape(tensors: Mapping[str, Tensor], name: str) -> torch.Size:
    if tensors[name].ndim != 3:
        raise UserError(f"{name} is {list(tensors[name].shape)}: not stacked over concepts")
    return tensors[name].shape


def _rank(tensors: Mapping[str, Tensor], layer: str) -> int:
    return tensors[layer + UP].shape[1]


def _alpha(tensors: Mapping[str, Tensor], layer: str) -> float:
    return float(tensors[layer + ALPHA])


def save_gates(edit: Edit, path: str | os.PathLike) -> None:
    """Write an edit of gates as a file that CPE's generator reads too. UserError as `files.save`."""
    layer = layers_of(edit.tensors)[0]
    rank, alpha = _rank(edit.tensors, layer), _alpha(edit.tensors, layer)
    files.save(edit, path, {"prompts": ",".join(edit.concepts), "rank": str(rank), "alpha": str(alpha)})


def gate_rank(edit: Edit) -> int:
    """r: the last axis of w_q, which no file names."""
    return edit.tensors[QUERY].shape[2]


# ---- selections ----------------------------------------------------------------------------------------------------


def united(edits: Sequence[Edit]) -> Edit:
    """The gates of several edits in one, in their order; a single one is itself.

    UserError for edits whose tensors do not stack (rank, alpha, layers), that differ in the form of the gate, or share a concept.
    """
    first = edits[0]
    if len(edits) == 1:
        return first
    for edit in edits[1:]:
        _check_goes_with(edit, first)
    concepts = [concept for edit in edits for concept in edit.concepts]
    if twice := sorted({concept for concept in concepts if concepts.count(concept) > 1}):
        raise UserError(f"two files of gates erase the same concept: {few(twice)}")
    tensors = {
        name: value if name.endswith(ALPHA) else torch.cat([edit.tensors[name] for edit in edits])
        for name, value in first.tensors.items()
    }
    methods = "+".join(dict.fromkeys(edit.method for edit in edits))
    return Edit(methods, concepts, _form(first) | {"of": _facts(edits)}, _base_of(edits), tensors, KIND)


def _check_goes_with(edit: Edit, first: Edit) -> None:
    for what, value in (
        ("layers", lambda e: sorted(e.tensors)),
        ("gate rank", gate_rank),
        ("rank", lambda e: _rank(e.tensors, layers_of(e.tensors)[0])),
        ("alpha", lambda e: _alpha(e.tensors, layers_of(e.tensors)[0])),
        ("separate_key", _form),
        ("width", lambda e: [t.shape[1:] for n, t in sorted(e.tensors.items()) if n.endswith((UP, DOWN))]),
    ):
        if value(edit) != value(first):
            raise UserError(f"{edit.label()} and {first.label()} do not go together: their {what} differs")


def _form(edit: Edit) -> dict[str, Any]:
    return {"separate_key": True} if edit.settings.get("separate_key") else {}


def _facts(edits: Sequence[Edit]) -> list[dict[str, Any]]:
    """Of every concept, the settings of the run that made it."""
    facts = []
    for edit in edits:
        facts += edit.settings["of"] if "of" in edit.settings else [dict(edit.settings) for _ in edit.concepts]
    return facts


def _base_of(edits: Sequence[Edit]) -> dict[str, Any]:
    """The base of those that say one (published files do not). UserError if they are of different ones."""
    bases = [edit.base for edit in edits if edit.base]
    for base, edit in zip(bases, (e for e in edits if e.base), strict=True):
        if base.get("sha256") != bases[0].get("sha256"):
            raise UserError(f"{edit.label()} is of another base than the other gates")
    return bases[0] if bases else {}


def only(edit: Edit, concepts: Collection[str]) -> Edit:
    """The edit of some concepts, bit for bit what stacking their files gives. UserError without any."""
    places = [i for i, concept in enumerate(edit.concepts) if concept in concepts]
    if not places:
        raise UserError("no gate is left: that is the base model itself")
    if len(places) == len(edit.concepts):
        return edit
    tensors = {name: t if name.endswith(ALPHA) else t[places] for name, t in edit.tensors.items()}
    facts = _facts([edit])
    settings = facts[places[0]] if len(places) == 1 else _form(edit) | {"of": [facts[i] for i in places]}
    return Edit(edit.method, [edit.concepts[i] for i in places], settings, edit.base, tensors, KIND)


# ---- in a model ----------------------------------------------------------------------------------------------------


def gates_of(edit: Edit, names: Mapping[str, str]) -> Gates:
    """The gates of an edit for a UNet's projections; names: projection -> layer (`layer_names`), those that the edit has."""
    tensors = {name: t.float() for name, t in edit.tensors.items()}
    return Gates(
        tensors[QUERY],
        tensors[KEY],
        tensors[SCALER],
        {projection: tensors[layer + DOWN] for projection, layer in names.items()},
        {projection: tensors[layer + UP] for projection, layer in names.items()},
        _alpha(tensors, next(iter(names.values()))),
        bool(edit.settings.get("separate_key")),
    )


@register_kind(KIND, base_unsaid=True)
def _attach_gates(model: nn.Module, edit: Edit, stack) -> Attached:
    """Hooks on the projections; the weights stay as they are. One edit of gates at a time: of several, the largest gate counts."""
    if earlier := next((other.edit for other in stack if other.edit.kind == KIND), None):
        raise UserError(f"{earlier.label()} is in the model: gates of several files are given together (`read_gates`)")
    _check(edit.tensors, edit.concepts)
    for name, tensor in edit.tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{edit.label()} holds values that are NaN or infinite: {name}")
    unet = model.get_submodule(UNET.removesuffix("."))
    layers, names = layers_of(edit.tensors), layer_names(unet.state_dict())
    found = {projection: layer for projection, layer in names.items() if layer in layers}
    if not found:
        raise UserError(f"{edit.label()} changes nothing: none of its layers is one of the model")
    if without := sorted(names.keys() - found.keys()):
        raise UserError(f"{edit.label()} is for another model: it has nothing for {few(without)}")
    weights = context_projections(model)
    for projection, layer in found.items():
        here = tuple(weights[f"{UNET}{projection}.weight"].shape)
        there = (edit.tensors[layer + UP].shape[2], edit.tensors[layer + DOWN].shape[1])
        if here != there:
            raise UserError(f"{edit.label()} is for another model: {layer} is {there} in it, {here} in the model")
    return Attached(list(found), attach(unet, gates_of(edit, found)), sorted(set(layers) - set(found.values())))
