"""Whole models as the published files: one CompVis state dict, or the UNet under diffusers' names."""

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from erasure import key_maps
from erasure.errors import UserError
from erasure.runs import WEIGHTS_SUFFIXES, save_pt, save_safetensors

_TEXT_MODEL = key_maps.PREFIXES["text_encoder"] + "text_model."
_POSITIONS = _TEXT_MODEL + "embeddings.position_ids"
_POSITION_WEIGHTS = _TEXT_MODEL + "embeddings.position_embedding.weight"


def compvis_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Everything a published file holds, in its order: schedule, UNet, VAE and text encoder with its position_ids."""
    return with_position_ids({k: t.detach() for k, t in model.state_dict().items() if not k.startswith("model_ema.")})


def with_position_ids(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Ours computes them; older programs load strictly and want them in the file, first of the text encoder."""
    result = {}
    for key, tensor in weights.items():
        if key.startswith(_TEXT_MODEL) and _POSITIONS not in result and _POSITION_WEIGHTS in weights:
            result[_POSITIONS] = torch.arange(len(weights[_POSITION_WEIGHTS]))[None]
        result[key] = tensor
    return result


def diffusers_unet(model: nn.Module) -> dict[str, Tensor]:
    """The UNet's weights under diffusers' names."""
    prefix = key_maps.PREFIXES["unet"]
    weights = {k[len(prefix) :]: t.detach() for k, t in model.state_dict().items() if k.startswith(prefix)}
    return key_maps.unet_to_diffusers(weights)


def export_compvis(model: nn.Module, path: str | os.PathLike) -> None:
    """Write the whole model under CompVis names: a bare dict, whatever loads Stable Diffusion v1 files reads it."""
    write_weights(path, compvis_state_dict(model))


def export_diffusers(model: nn.Module, path: str | os.PathLike) -> None:
    """Write the UNet under diffusers' names, for ``unet.load_state_dict``."""
    write_weights(path, diffusers_unet(model))


def write_weights(path: str | os.PathLike, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors atomically, as .safetensors or, by suffix, as a pickle of nothing but tensors (.pt, .ckpt ...)."""
    path = Path(path)
    if path.suffix == ".safetensors":
        save_safetensors(path, tensors, {"format": "pt"})
    elif path.suffix in WEIGHTS_SUFFIXES:
        # a clone each: a view would take the whole storage behind it into the file
        save_pt(path, {k: t.detach().cpu().clone(memory_format=torch.contiguous_format) for k, t in tensors.items()})
    else:
        raise UserError(f"{path}: weights are written as {', '.join(WEIGHTS_SUFFIXES)}")
