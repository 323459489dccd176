"""A whole model as diffusers keeps it: folders unet, vae and text_encoder, each with its weights and config.json.

``from_pretrained`` of diffusers (UNet2DConditionModel, AutoencoderKL) and transformers (CLIPTextModel) reads each part.
"""

import os
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

from torch import nn

from erasure import key_maps
from erasure.base_models import FOLDER_CONFIG, FOLDER_FILES
from erasure.edits.exporting import compvis_state_dict, write_weights
from erasure.errors import UserError
from erasure.runs import write_json, write_text


def write_folder(model: nn.Module, config, folder: str | os.PathLike) -> list[Path]:
    """Write `model` (LatentDiffusion) into `folder`; returns the files of weights.

    config: the model's configuration (OmegaConf node), which is kept in the folder too. UserError for a network that
    diffusers has no counterpart of; nothing is written then.
    """
    from omegaconf import OmegaConf

    folder = Path(folder)
    params = OmegaConf.to_container(config.model.params, resolve=True)
    parts = key_maps.compvis_to_diffusers(compvis_state_dict(model))
    configs = {
        "unet": unet_config(params["unet_config"]["params"]),
        "vae": vae_config(params["first_stage_config"]["params"], params.get("scale_factor", 1.0)),
        "text_encoder": text_config(params["cond_stage_config"].get("params") or {}),
    }
    written = []
    for part, stem in FOLDER_FILES.items():
        written.append(folder / part / f"{stem}.safetensors")
        write_weights(written[-1], parts[part])
        write_json(folder / part / "config.json", configs[part])
    write_text(folder / FOLDER_CONFIG, OmegaConf.to_yaml(config))
    return written


def unet_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of diffusers' UNet2DConditionModel for the parameters of a CompVis UNetModel."""
    mult, depth = list(params["channel_mult"]), params["num_res_blocks"]
    attends = [2**level in params["attention_resolutions"] for level in range(len(mult))]
    channels = [params["model_channels"] * m for m in mult]
    for name in ("resblock_updown", "use_scale_shift_norm", "num_classes"):
        if params.get(name):
            raise UserError(f"diffusers has no UNet with the text attention of CompVis and {name}")
    if mult[0] != 1:
        raise UserError(f"diffusers has no UNet whose channel_mult starts with {mult[0]} instead of 1")
    per_head = params.get("num_head_channels", -1)
    # what diffusers calls attention_head_dim is the number of heads in this class
    heads = params.get("num_heads", -1) if per_head == -1 else [width // per_head for width in channels]
    return {
        "_class_name": "UNet2DConditionModel",
        "sample_size": params["image_size"],
        "in_channels": params["in_channels"],
        "out_channels": params["out_channels"],
        "block_out_channels": channels,
        "layers_per_block": depth,
        "down_block_types": ["CrossAttnDownBlock2D" if yes else "DownBlock2D" for yes in attends],
        "up_block_types": ["CrossAttnUpBlock2D" if yes else "UpBlock2D" for yes in reversed(attends)],
        "cross_attention_dim": params["context_dim"],
        "attention_head_dim": heads,
        "transformer_layers_per_block": params.get("transformer_depth", 1),
        "use_linear_projection": False,
        "act_fn": "silu",
        "norm_num_groups": 32,
    }


def vae_config(params: Mapping[str, Any], scale_factor: float) -> dict[str, Any]:
    """config.json of diffusers' AutoencoderKL for the parameters of a CompVis AutoencoderKL."""
    dd = params["ddconfig"]
    levels = len(dd["ch_mult"])
    resized = params.get("embed_dim", dd["z_channels"]) != dd["z_channels"]
    if resized or dd.get("attn_resolutions") or dd["ch_mult"][0] != 1:
        raise UserError(
            "diffusers has no autoencoder with embed_dim unlike z_channels, attention outside its middle, "
            "or a ch_mult that does not start with 1"
        )
    return {
        "_class_name": "AutoencoderKL",
        "sample_size": dd["resolution"],
        "in_channels": dd["in_channels"],
        "out_channels": dd["out_ch"],
        "latent_channels": dd["z_channels"],
        "block_out_channels": [dd["ch"] * m for m in dd["ch_mult"]],
        "layers_per_block": dd["num_res_blocks"],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "act_fn": "silu",
        "norm_num_groups": 32,
        "scaling_factor": scale_factor,
    }


def text_config(params: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of transformers' CLIPTextModel for the parameters of a FrozenCLIPEmbedder."""
    from ldm.modules.encoders.modules import FrozenCLIPEmbedder

    names = (
        "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
        "max_position_embeddings", "hidden_act",
    )  # fmt: skip
    defaults = signature(FrozenCLIPEmbedder).parameters
    sizes = {name: params.get(name, defaults[name].default) for name in names}
    end = sizes["vocab_size"] - 1  # also fills up short prompts
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        **sizes,
        "projection_dim": sizes["hidden_size"],
        "layer_norm_eps": 1e-5,
        "bos_token_id": end - 1,
        "eos_token_id": end,
        "pad_token_id": end,
    }
