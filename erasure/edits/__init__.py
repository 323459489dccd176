"""Edits: what an erasure method makes of a base model, from the small file to a changed model and back.

    edit = edits.read("models/compvis-word_VanGogh-.../edit.safetensors")
    with edits.apply(model, edit, identity):          # or applied = ...; applied.remove()
        ...                                           # the model is the edited one
    edits.export_compvis(model, "whole.safetensors")

`load_into` takes anything that can change a model: an edit, or a full or partial checkpoint in either naming.
"""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from erasure import key_maps
from erasure.edits.applying import KINDS, UNET, Applied, Attached, apply, few, register_kind, replace_weights
from erasure.edits.context_maps import ContextMap, context_projections
from erasure.edits.exporting import compvis_state_dict, export_compvis, export_diffusers, write_weights
from erasure.edits.files import Edit, find_for, is_edit, read, read_header, save, save_run
from erasure.edits.residual_gates import KIND as GATES
from erasure.edits.residual_gates import gate_files, has_gates, is_gate_file, read_gates, save_gates
from erasure.edits.residual_gates import united as gates_united
from erasure.edits.selections import drop, keep
from erasure.edits.separable import KIND as SEPARABLE
from erasure.edits.separable import Part, parts_of, separable, united
from erasure.errors import UserError, about
from erasure.runs import find

_TEXT = key_maps.PREFIXES["text_encoder"]
_NOT_LOADED = ("model_ema.", "first_stage_model.loss.")


def load_into(
    model: nn.Module, identity, path: str | os.PathLike, force: bool = False, without: Sequence[str] = ()
) -> Applied:
    """Change a model (LatentDiffusion) to what a file says; returns the way back.

    path: an edit; or weights of a UNet or of a whole model, complete or in part, under CompVis or diffusers names
    (.safetensors, .pt, .ckpt); or a run folder or a diffusers folder. A checkpoint does not say which base it belongs
    to, so only names and shapes are checked. UserError if the file changes nothing, and for all that `apply` refuses.
    without: concepts of a separable edit or of gates that are left out.
    """
    path = _weights_at(find(path))
    with about(path):
        edit = _edit_at(path)
        if edit is not None:
            return apply(model, drop(edit, without) if without else edit, identity, force)
        if without:
            raise UserError("weights, not an edit that knows its concepts apart: nothing can be left out of them")
        return apply(model, _checkpoint(model, path), force=force)


def _weights_at(path: Path) -> Path:
    """Of a run folder its weights; a file, a diffusers folder and a folder of gates are what they are."""
    if not path.is_dir() or (path / "unet").is_dir():
        return path
    found = find_for(path)
    if found is None and not has_gates(path):
        raise UserError(f"{path}: no edit.safetensors and no weights of a run in it")
    return found or path


def _edit_at(path: Path) -> Edit | None:
    """The edit that a file, or a folder of gates, is; None for weights."""
    if is_gate_file(path) or has_gates(path):
        return read_gates(path)
    return read(path) if is_edit(path) else None


def _checkpoint(model: nn.Module, path: Path) -> Edit:
    """The weights of a file as an edit of the whole model, without what is not loaded (schedule, averages)."""
    from erasure.base_models import read_state_dict
    from erasure.checkpoint_files import read_tensors

    tensors = read_state_dict(path) if path.is_dir() else read_tensors(path)
    known = set(model.state_dict())
    schedule = {name for name, _ in model.named_buffers(recurse=False)}
    names = _names_of_unet(known)
    values = {}
    for key, tensor in tensors.items():
        if key in schedule or key.startswith(_NOT_LOADED) or key.endswith("position_ids"):
            continue
        if key.startswith(_TEXT) and key not in known:
            key = key.replace(_TEXT, _TEXT + "text_model.")
        values[names.get(key, key)] = tensor
    if not known & values.keys():
        raise UserError(f"{path} changes nothing: none of its {len(tensors)} tensors is one of the model")
    return Edit(method="checkpoint", concepts=[], settings={}, base={}, tensors=values, kind="checkpoint")


def _names_of_unet(known: set[str]) -> dict[str, str]:
    """Any name of a UNet weight in a file of the UNet alone -> its full name."""
    unet = [key.removeprefix(UNET) for key in known if key.startswith(UNET)]
    names = {key: UNET + key for key in unet}
    try:
        return names | {new: UNET + old for old, new in key_maps.unet_keys_map(unet).items()}
    except UserError:  # a network that diffusers has no names for
        return names


def compose(edits: Sequence[Edit]) -> Edit:
    """One edit that does what several do one after the other, for edits of the same base and kind.

    Maps of the conditioning multiply; separable edits unite their parts (UserError for a concept that is in two). Edits
    of tensors must change different ones: UserError where they overlap, as they then have no exact sum (`apply` one
    after another adds their changes), and for any other kind.
    """
    if not edits:
        raise UserError("no edits to compose")
    kind, base = edits[0].kind, edits[0].base
    for edit in edits:
        if edit.kind != kind or kind not in _COMPOSERS or edit.base.get("sha256") != base.get("sha256"):
            raise UserError(f"{edit.label()} is of another base or kind than {edits[0].label()}")
    return _COMPOSERS[kind](edits)


def _together(edits: Sequence[Edit], tensors: dict[str, Tensor]) -> Edit:
    """One edit with these tensors that names all of `edits`."""
    return Edit(
        method="+".join(dict.fromkeys(edit.method for edit in edits)),
        concepts=[concept for edit in edits for concept in edit.concepts],
        settings={"edits": [{"method": e.method, "concepts": e.concepts, "settings": e.settings} for e in edits]},
        base=edits[0].base,
        tensors=tensors,
        kind=edits[0].kind,
    )


def _disjoint(edits: Sequence[Edit]) -> Edit:
    tensors = {}
    for edit in edits:
        if shared := sorted(tensors.keys() & edit.tensors.keys()):
            raise UserError(f"{edit.label()} changes tensors that another edit changes too: {few(shared)}")
        tensors |= edit.tensors
    return _together(edits, tensors)


def _multiplied(edits: Sequence[Edit]) -> Edit:
    maps = [ContextMap.from_tensors(edit.tensors) for edit in edits]
    return _together(edits, functools.reduce(ContextMap.then, maps).tensors())


_COMPOSERS = {"tensors": _disjoint, "context_map": _multiplied, SEPARABLE: united, GATES: gates_united}


__all__ = [
    "KINDS",
    "Applied",
    "Attached",
    "ContextMap",
    "Edit",
    "Part",
    "apply",
    "compose",
    "compvis_state_dict",
    "context_projections",
    "drop",
    "export_compvis",
    "export_diffusers",
    "find_for",
    "gate_files",
    "has_gates",
    "is_edit",
    "is_gate_file",
    "keep",
    "load_into",
    "parts_of",
    "read",
    "read_gates",
    "read_header",
    "register_kind",
    "replace_weights",
    "save",
    "save_gates",
    "save_run",
    "separable",
    "write_weights",
]
