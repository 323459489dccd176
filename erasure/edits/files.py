"""The small file that a method produces: the tensors it changed, and a header that says all about them."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure.errors import UserError
from erasure.runs import ROOT, WEIGHTS_SUFFIXES, find, save_safetensors, versions, write_json

FORMAT, FORMAT_VERSION = "erasure-edit", "1"
_HEADER = ("method", "concepts", "settings", "base", "kind", "versions")


@dataclass
class Edit:
    """What a method changed in a base model."""

    method: str
    concepts: list[str]
    settings: dict[str, Any]
    base: dict[str, Any]  # BaseIdentity.to_dict() of the model it was made for
    tensors: dict[str, Tensor]  # new values under CompVis UNet names, without model.diffusion_model.
    kind: str = "tensors"  # how the tensors are to be read (`erasure.edits.KINDS`)
    versions: dict[str, str] = field(default_factory=dict)

    def label(self) -> str:
        """For messages: the method and what it erased."""
        if self.kind == "checkpoint":
            return "the checkpoint"
        return f"the {self.method} edit" + (f" of {', '.join(self.concepts)}" if self.concepts else "")


def save(edit: Edit, path: str | os.PathLike, published: Mapping[str, str] | None = None) -> None:
    """Write an edit (.safetensors). UserError if it is empty or holds NaN: training diverged.

    published: what the format of a method's own files has in the header.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise UserError(f"{path}: an edit is a .safetensors file")
    if not edit.tensors:
        raise UserError(f"{edit.label()} is empty: nothing to write to {path}")
    for name, tensor in edit.tensors.items():
        if not torch.isfinite(tensor).all():
            raise UserError(f"{edit.label()} holds values that are NaN or infinite ({name}): lower the learning rate")
    header = {name: getattr(edit, name) for name in _HEADER}
    header["versions"] = edit.versions or versions()
    # "format": "pt" is what other libraries look for before they read a .safetensors file
    save_safetensors(path, edit.tensors, {"format": "pt", FORMAT: FORMAT_VERSION} | header | dict(published or {}))


def save_run(edit: Edit, folder: str | os.PathLike, **facts: Any) -> Path:
    """Write edit.safetensors and, with `facts` about the run, settings.json into a run folder; returns the edit's path."""
    folder = Path(folder)
    save(edit, folder / "edit.safetensors")
    about_it = {"method": edit.method, "concepts": edit.concepts, "settings": edit.settings, "base": edit.base}
    write_json(folder / "settings.json", about_it | {"versions": versions()} | facts)
    return folder / "edit.safetensors"


def read(path: str | os.PathLike) -> Edit:
    """Read an edit; UserError for a file that is missing, damaged or something else."""
    from erasure.checkpoint_files import read_tensors

    path = find(path)
    header = read_header(path)
    return Edit(tensors=read_tensors(path), **header)


def read_header(path: str | os.PathLike) -> dict[str, Any]:
    """All of an edit but its tensors, which are not read."""
    path = find(path)
    header = metadata(path)
    if FORMAT not in header:
        from erasure.checkpoint_files import shapes

        shapes(path)  # says so if the file is missing or damaged
        raise UserError(f"{path}: weights, but not an edit made here")
    if header[FORMAT] != FORMAT_VERSION:
        raise UserError(f"{path}: an edit of format {header[FORMAT]}, and this version reads {FORMAT_VERSION}")
    types = {f.name: f.type for f in fields(Edit)}
    try:
        return {name: header[name] if types[name] is str else json.loads(header[name]) for name in _HEADER}
    except (KeyError, ValueError) as error:
        raise UserError(f"{path}: the header of the edit is incomplete ({error})") from None


def is_edit(path: str | os.PathLike) -> bool:
    """Whether a file is an edit, by its header; never raises for what is not."""
    return FORMAT in metadata(find(path))


def metadata(path: Path) -> dict[str, str]:
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError, ValueError):
        return {}


# ---- where the results of a run are --------------------------------------------------------------------------------


def find_for(model_name: str | os.PathLike) -> Path | None:
    """The weights that a published model name, a file or a run folder stands for; None if there are none.

    A name such as ``compvis-word_VanGogh-method_xattn-sg_3-ng_1-iter_1000-lr_1e-05`` (or its ``diffusers-`` twin) is
    looked up under ``models/`` of the working directory, then of the repository. In a run folder, the edit comes
    before the full weights, and those under the folder's own name before their twin. A file ``erased-nudity-….pt`` that
    was not written is its run folder ``erased-nudity-…``.
    """
    if not str(model_name).strip():
        return None
    direct = find(model_name)
    if direct.is_file():
        return direct
    name = Path(model_name).name
    folders = [direct]
    for root in (Path(), ROOT):
        folders += [root / "models" / folder for folder in dict.fromkeys((str(model_name), *_twins(str(model_name))))]
    candidates = (file for folder in folders for file in _run_files(folder, name or folder.resolve().name))
    found = next((file for file in candidates if file.is_file()), None)
    stem = str(model_name).removesuffix(Path(model_name).suffix)
    return find_for(stem) if found is None and Path(model_name).suffix in WEIGHTS_SUFFIXES else found


def _run_files(folder: Path, name: str) -> list[Path]:
    stems = dict.fromkeys((name, *_twins(name)))
    return [folder / "edit.safetensors"] + [folder / (stem + end) for stem in stems for end in (".safetensors", ".pt")]


def _twins(name: str) -> tuple[str, ...]:
    """The other name of the same run: files in diffusers' naming, and the folder, which is called compvis."""
    return (name.replace("diffusers", "compvis"), name.replace("compvis", "diffusers"))
