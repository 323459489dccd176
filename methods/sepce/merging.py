"""Several erased models in one: the base's weights, and what each model changed of them in its cross-attention.

W = W_0 + sum_i (W_i - W_0). Weights of separable edits need none of this: their parts are put together exactly
(`erasure.edits.compose`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from erasure import base_models, edits
from erasure.base_models import BaseIdentity
from erasure.edits import Edit
from erasure.edits.applying import UNET
from erasure.errors import UserError, about
from erasure.runs import tensors_sha256

METHOD = "merge"
KEYS = {"kv": ("attn2.to_k", "attn2.to_v"), "attn2": ("attn2",)}
"""Which changes of a model are taken: those of keys and values, or of the whole cross-attention."""


def takes(name: str, keys: str) -> bool:
    """Whether a weight, in either naming, is among those of `keys`."""
    return any(part in name for part in KEYS[keys])


def merged(
    base: Mapping[str, Tensor], models: Sequence[Mapping[str, Tensor]], keys: Sequence[str]
) -> dict[str, Tensor]:
    """Weights of `base` plus, for every model, its differences from it in the weights that its `keys` take.

    Published: the first model gives its whole attn2, the others keys and values only. UserError where a model lacks one.
    """
    result = dict(base)
    for name, weight in base.items():
        changes = []
        for model, own in zip(models, keys, strict=True):
            if takes(name, own):
                if name not in model or model[name].shape != weight.shape:
                    raise UserError(
                        f"{name} is missing in one of the models, or of another shape: not of the same base"
                    )
                changes.append(model[name].double() - weight.double())
        if changes:
            result[name] = (weight.double() + sum(changes)).to(weight.dtype)
    return result


# ---- files ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A model to merge: the weights of its cross-attention, under CompVis names without model.diffusion_model."""

    label: str
    concepts: list[str]
    weights: dict[str, Tensor]


class Base:
    """The weights that all started from: a whole model or a UNet alone, in either naming."""

    def __init__(self, name: str | None = None, weights: str = "auto", unsafe_pickle: bool = False):
        state_dict, self.identity = base_models.read(name, weights=weights, unsafe_pickle=unsafe_pickle)
        self.module = bare_model(state_dict)
        self.whole = any(not key.startswith(UNET) for key in state_dict)

    def weights(self) -> dict[str, Tensor]:
        """Copies of the cross-attention's weights as they are now."""
        named = ((name.removeprefix(UNET), p) for name, p in self.module.named_parameters() if name.startswith(UNET))
        return {name: p.detach().clone() for name, p in named if takes(name, "attn2")}

    def read(self, path: Path, label: str) -> Model:
        """An edit of this base, or a checkpoint of a UNet or of a whole model."""
        with about(path):
            if path.is_file() and edits.is_edit(path):
                edit = edits.read(path)
                with edits.apply(self.module, edit, self.identity):
                    return Model(label, edit.concepts, self.weights())
            found = base_models.choose_weights(base_models.read_state_dict(path))[0]
            own = {name.removeprefix(UNET): t for name, t in found.items() if name.startswith(UNET)}
            return Model(label, [], {name: tensor for name, tensor in own.items() if takes(name, "attn2")})

    def read_all(self, paths: Sequence[Path], labels: Sequence[str]) -> list[Model]:
        bar = tqdm(zip(paths, labels, strict=True), desc="reading models", total=len(paths), unit=" models", delay=1)
        return [self.read(path, label) for path, label in bar]


def bare_model(state_dict: Mapping[str, Tensor]) -> nn.Module:
    """A module that holds weights under their names and can do nothing: edits are applied to it as to the model itself."""
    root = nn.Module()
    for name, tensor in state_dict.items():
        *path, leaf = name.split(".")
        module = root
        for part in path:
            if part not in module._modules:
                module.add_module(part, nn.Module())
            module = module._modules[part]
        module.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    return root


def merge(base: Base, models: Sequence[Model], keys: Sequence[str]) -> Edit:
    """The edit that turns the base into the merged model: the tensors that become others."""
    before = base.weights()
    after = merged(before, [model.weights for model in models], keys)
    changed = {name: tensor for name, tensor in after.items() if not torch.equal(tensor, before[name])}
    if not changed:
        raise UserError("the models are the base: nothing to merge")
    taken = [
        {"model": m.label, "keys": own, "sha256": tensors_sha256({n: t for n, t in m.weights.items() if takes(n, own)})}
        for m, own in zip(models, keys, strict=True)
    ]
    concepts = list(dict.fromkeys(concept for model in models for concept in model.concepts))
    return Edit(METHOD, concepts, {"models": taken}, base.identity.to_dict(), changed)


def write(edit: Edit, folder: Path, save_format: str, base: Base | None, force: bool = False) -> list[Path]:
    """edit.safetensors and settings.json in a run folder; with `save_format` pt or safetensors also the published files.

    These are NAME, the UNet under diffusers' names, and, of a base that is a whole model, compvis-NAME. UserError for a
    folder with another run in it.
    """
    file = folder / "edit.safetensors"
    if not force and file.is_file() and _about(edits.read_header(file)) != _about(vars(edit)):
        raise UserError(f"{folder} holds another model: --force replaces it, or give another name")
    files = [edits.save_run(edit, folder), folder / "settings.json"]
    if save_format != "edit":
        exports = {f"{folder.name}.{save_format}": edits.export_diffusers}
        if base.whole:
            exports[f"compvis-{folder.name}.{save_format}"] = edits.export_compvis
        with edits.apply(base.module, edit, base.identity):
            for name, export in exports.items():
                export(base.module, folder / name)
                files.append(folder / name)
    return files


def _about(header: Mapping[str, Any]) -> tuple:
    return header["method"], header["concepts"], header["settings"], header["base"].get("sha256")


__all__ = ["KEYS", "METHOD", "Base", "BaseIdentity", "Model", "bare_model", "merge", "merged", "takes", "write"]
