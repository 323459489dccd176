"""Several erased models in one: the base's weights, and what each model changed of them in its cross-attention.

W = W_0 + sum_i (W_i - W_0). Weights of separable edits need none of this: their parts are put together exactly
(`erasure.edits.compose`).
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from erasure import base_models, edits
from erasure.edits import Edit
from erasure.edits.applying import UNET
from erasure.errors import UserError, about
from erasure.generation.models import NoSuchModel, find_weights
from erasure.runs import find, read_json, tensors_sha256, versions, write_json

METHOD, SETTINGS = "merge", "settings.json"
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


def base_of(given: str | None) -> str | Path | None:
    """A base by its name or that of a run or file; None for the default base, which ``original`` means.

    ``ori``, as the published scripts call it, means that too where there is no run of this name.
    """
    if given is None or given.lower() == "original":
        return None
    if given.lower() in base_models.NAMES or find(given).is_file():
        return given
    try:
        return find_weights(given)
    except NoSuchModel:
        if given.lower() == "ori":
            return None
        raise


class Base:
    """The weights that all started from: a whole model or a UNet alone, in either naming."""

    def __init__(self, name=None, config=None, weights: str = "auto", unsafe_pickle: bool = False):
        state_dict, self.identity = base_models.read(name, config, weights, unsafe_pickle)
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

    These are NAME, the UNet under diffusers' names, and compvis-NAME, the whole model. Of a base that is a UNet alone, the
    result is that, NAME, without an edit, which would need the whole base to be drawn with. UserError for a folder with
    another run in it, unless `force`.
    """
    alone = base is not None and not base.whole
    if _differs(edit, folder):
        if not force:
            raise UserError(f"{folder} holds another model: give this one another name")
        for file in _files(folder):
            file.unlink(missing_ok=True)
    if alone:
        facts = {"method": edit.method, "concepts": edit.concepts, "settings": edit.settings, "base": edit.base}
        write_json(folder / SETTINGS, facts | {"versions": versions()})
        save_format = "safetensors" if save_format == "edit" else save_format
        files = [folder / SETTINGS]
    else:
        files = [edits.save_run(edit, folder), folder / SETTINGS]
    if save_format != "edit":
        with edits.apply(base.module, edit, base.identity):
            for prefix, export in {"": edits.export_diffusers, "compvis-": edits.export_compvis}.items():
                if not (alone and prefix):
                    files.append(folder / f"{prefix}{folder.name}.{save_format}")
                    export(base.module, files[-1])
    return files


def is_merge(folder: Path) -> bool:
    """Whether a run folder holds a merged model, which nobody has trained."""
    return _settings(folder).get("method") == METHOD


def _settings(folder: Path) -> dict:
    """What a run folder says of itself; {} where it says nothing that can be read."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        found = read_json(folder / SETTINGS)
        return found if isinstance(found, dict) else {}
    return {}


def _files(folder: Path) -> list[Path]:
    """What `write` may have written there."""
    published = [
        folder / f"{prefix}{folder.name}.{end}" for prefix in ("", "compvis-") for end in ("pt", "safetensors")
    ]
    return [folder / "edit.safetensors", folder / SETTINGS, *published]


def _differs(edit: Edit, folder: Path) -> bool:
    """Whether files of another model are in the way."""
    if not any(file.exists() for file in _files(folder)):
        return False
    found, names = _settings(folder), ("method", "concepts", "settings")
    same = [json.dumps(found.get(name)) == json.dumps(getattr(edit, name)) for name in names]
    return not all(same) or found["base"].get("sha256") != edit.base.get("sha256")
