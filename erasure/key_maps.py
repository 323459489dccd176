"""Names of the same weights in CompVis checkpoints and in diffusers folders.

The translation follows the structure found in the keys (where a level ends, which blocks attend), so any UNet or
autoencoder of this family is covered, not Stable Diffusion v1 only. A UNet on its own is named without prefix.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping

import torch

from erasure.errors import UserError

PREFIXES = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}
FLAT_TEXT = ("embeddings.", "encoder.", "final_layer_norm.")  # text tower keys of files without the text_model. level

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_RESNET_BACK = {new: old for old, new in _RESNET.items()}
_OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "label_emb": "class_embedding",
    "input_blocks.0.0": "conv_in",
    "middle_block.0": "mid_block.resnets.0",
    "middle_block.1": "mid_block.attentions.0",
    "middle_block.2": "mid_block.resnets.1",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
_OUTER_BACK = {new: old for old, new in _OUTER.items()}
_BLOCK = re.compile(r"(input|output)_blocks\.(\d+)\.(\d+)\.(.+)")
_DIFFUSERS_BLOCK = re.compile(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)\.(.+)")


# ---- UNet ----------------------------------------------------------------------------------------------------------


def unet_map(unet_config) -> dict[str, str]:
    """CompVis UNet key -> diffusers key (both without prefix) for a UNet configuration.

    `unet_config` is a node with ``target`` and ``params``, or the parameters alone; nothing is allocated.
    UserError if the network has blocks that diffusers stores differently (attention without text).
    """
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    return unet_keys_map(_meta_keys(UNetModel, _params(unet_config)))


def unet_keys_map(keys: Iterable[str]) -> dict[str, str]:
    """`unet_map` for the complete key set of a CompVis UNet (without prefix)."""
    keys = list(keys)
    blocks = _compvis_blocks(keys)
    return {key: _unet_key(key, blocks) for key in keys}


def _unet_key(key: str, blocks: Mapping[str, str]) -> str:
    if ".qkv." in key:
        raise UserError(f"{key}: attention blocks without text have no one-to-one counterpart in diffusers")
    for depth in (3, 2, 1):
        parts = key.split(".")
        head, rest = ".".join(parts[:depth]), ".".join(parts[depth:])
        if head in blocks:
            return f"{blocks[head]}.{_rename_head(rest, _RESNET | {'op': 'conv'})}"
    raise UserError(f"{key}: not a key of a CompVis UNet")


def _rename_head(rest: str, names: Mapping[str, str]) -> str:
    for old, new in names.items():
        if rest.startswith(old + "."):
            return new + rest[len(old) :]
    return rest


def _compvis_blocks(keys: Iterable[str]) -> dict[str, str]:
    """CompVis module -> diffusers module, from the keys alone."""
    sides = {"input": defaultdict(dict), "output": defaultdict(dict)}
    for key in keys:
        if match := _BLOCK.match(key):
            side, block, child, rest = match.groups()
            sides[side][int(block)].setdefault(int(child), set()).add(rest.split(".")[0])
    if not sides["output"]:
        raise UserError("no CompVis UNet: there is no output_blocks.* key")
    blocks = dict(_OUTER)
    levels = _levels(sides)
    start = 1
    for level, size in enumerate(reversed(levels)):
        for j in range(size - 1):
            blocks[f"input_blocks.{start + j}.0"] = f"down_blocks.{level}.resnets.{j}"
            blocks[f"input_blocks.{start + j}.1"] = f"down_blocks.{level}.attentions.{j}"
        blocks[f"input_blocks.{start + size - 1}.0"] = f"down_blocks.{level}.downsamplers.0"
        start += size
    start = 0
    for level, size in enumerate(levels):
        for j in range(size):
            for child, names in sides["output"][start + j].items():
                target = f"resnets.{j}" if child == 0 else "upsamplers.0" if _resamples(names) else f"attentions.{j}"
                blocks[f"output_blocks.{start + j}.{child}"] = f"up_blocks.{level}.{target}"
        start += size
    return blocks


def _resamples(names: set[str]) -> bool:
    return bool(names & {"conv", "in_layers"})  # a convolution, or a residual block that also resamples


def _levels(sides) -> list[int]:
    """Number of output blocks of each level, deepest first (one more than the level has residual blocks on the way in)."""
    outputs = max(sides["output"]) + 1
    ends = [i for i in range(outputs) if any(c and _resamples(n) for c, n in sides["output"][i].items())]
    if not ends:  # resampling without parameters leaves gaps in the numbering of the input blocks
        gaps = [i for i in range(1, max(sides["input"])) if i not in sides["input"]]
        ends = [outputs - 1 - i for i in reversed(gaps)]
    ends = [-1, *ends, outputs - 1]
    return [after - before for before, after in zip(ends, ends[1:], strict=False)]


def unet_to_diffusers(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A complete CompVis UNet (no prefix) under diffusers' names; the tensors themselves are shared."""
    return {new: tensors[old] for old, new in unet_keys_map(tensors).items()}


def unet_to_compvis(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A complete diffusers UNet under CompVis names (no prefix).

    Transformer projections stored as matrices [O, I] become 1x1 convolutions [O, I, 1, 1].
    """
    place = _diffusers_places(tensors)
    result = {}
    for key, tensor in tensors.items():
        new = _compvis_unet_key(key, place)
        if re.search(r"\.1\.proj_(in|out)\.weight$", new) and tensor.ndim == 2:
            tensor = tensor[:, :, None, None]
        result[new] = tensor
    return result


def _diffusers_places(keys: Iterable[str]) -> dict[str, str]:
    """diffusers module -> CompVis module of the down and up path."""
    sizes = {"down": defaultdict(int), "up": defaultdict(int)}
    attends = set()
    for key in keys:
        if match := _DIFFUSERS_BLOCK.match(key):
            side, level, kind, j = match[1], int(match[2]), match[3], int(match[4])
            if kind == "resnets":
                sizes[side][level] = max(sizes[side][level], j + 1)
            elif kind == "attentions":
                attends.add((side, level, j))
    place, block = {}, 1
    for level in sorted(sizes["down"]):
        for j in range(sizes["down"][level]):
            place[f"down_blocks.{level}.resnets.{j}"] = f"input_blocks.{block}.0"
            place[f"down_blocks.{level}.attentions.{j}"] = f"input_blocks.{block}.1"
            block += 1
        place[f"down_blocks.{level}.downsamplers.0"] = f"input_blocks.{block}.0"
        block += 1
    block = 0
    for level in sorted(sizes["up"]):
        for j in range(sizes["up"][level]):
            place[f"up_blocks.{level}.resnets.{j}"] = f"output_blocks.{block}.0"
            place[f"up_blocks.{level}.attentions.{j}"] = f"output_blocks.{block}.1"
            block += 1
        child = 2 if ("up", level, sizes["up"][level] - 1) in attends else 1
        place[f"up_blocks.{level}.upsamplers.0"] = f"output_blocks.{block - 1}.{child}"
    return place


def _compvis_unet_key(key: str, place: Mapping[str, str]) -> str:
    match = _DIFFUSERS_BLOCK.match(key)
    if match:
        side, level, kind, j, rest = match.groups()
        module = f"{side}_blocks.{level}.{kind}.{j}"
        if kind == "downsamplers" and rest.startswith("conv."):
            rest = "op." + rest.removeprefix("conv.")
        if module in place:
            return f"{place[module]}.{rest if kind == 'attentions' else _rename_head(rest, _RESNET_BACK)}"
    for module, old in _OUTER_BACK.items():
        if key.startswith(module + "."):
            rest = key[len(module) + 1 :]
            return f"{old}.{_rename_head(rest, _RESNET_BACK) if '.resnets.' in module else rest}"
    raise UserError(f"{key}: not a key of a diffusers UNet with text transformers")


# ---- autoencoder ---------------------------------------------------------------------------------------------------

_VAE_ATTENTION = {
    "current": {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"},
    "original": {"norm": "group_norm", "q": "query", "k": "key", "v": "value", "proj_out": "proj_attn"},
}


def vae_map(first_stage_config, attention_names: str = "current") -> dict[str, str]:
    """CompVis autoencoder key -> diffusers key (both without prefix) for a first-stage configuration.

    `first_stage_config` is the node, its parameters, or the ``ddconfig`` alone. `attention_names` is ``current``
    (to_q ...) or ``original`` (query ..., as diffusers wrote them up to 2023).
    """
    from ldm.models.autoencoder import AutoencoderKL

    params = _params(first_stage_config)
    ddconfig = params.get("ddconfig", params)
    settings = {
        "ddconfig": ddconfig,
        "lossconfig": {"target": "torch.nn.Identity"},
        "embed_dim": params.get("embed_dim", ddconfig["z_channels"]),
    }
    return vae_keys_map(_meta_keys(AutoencoderKL, settings), attention_names)


def vae_keys_map(keys: Iterable[str], attention_names: str = "current") -> dict[str, str]:
    """`vae_map` for the complete key set of a CompVis autoencoder (without prefix); training losses are left out."""
    keys = [key for key in keys if not key.startswith("loss.")]
    last = _last_level(keys, r"decoder\.up\.(\d+)\.")
    return {key: _vae_key(key, last, _VAE_ATTENTION[attention_names]) for key in keys}


def _last_level(keys: Iterable[str], pattern: str) -> int:
    return max((int(m[1]) for m in (re.match(pattern, key) for key in keys) if m), default=0)


def _vae_key(key: str, last: int, attention: Mapping[str, str]) -> str:
    key = re.sub(r"^encoder\.down\.(\d+)\.", r"encoder.down_blocks.\1.", key)
    key = re.sub(r"^decoder\.up\.(\d+)\.", lambda m: f"decoder.up_blocks.{last - int(m[1])}.", key)
    key = re.sub(r"(_blocks\.\d+)\.block\.", r"\1.resnets.", key)
    key = re.sub(r"(_blocks\.\d+)\.attn\.", r"\1.attentions.", key)
    key = re.sub(r"\.(down|up)sample\.conv\.", r".\1samplers.0.conv.", key)
    key = re.sub(r"\.mid\.block_(\d)\.", lambda m: f".mid_block.resnets.{int(m[1]) - 1}.", key)
    key = key.replace(".mid.attn_1.", ".mid_block.attentions.0.").replace("nin_shortcut", "conv_shortcut")
    key = re.sub(r"^(encoder|decoder)\.norm_out\.", r"\1.conv_norm_out.", key)
    return re.sub(r"(\.attentions\.\d+)\.(norm|q|k|v|proj_out)\.", lambda m: f"{m[1]}.{attention[m[2]]}.", key)


def _vae_key_back(key: str, last: int) -> str:
    for names in _VAE_ATTENTION.values():
        for old, new in names.items():
            key = re.sub(rf"(\.attentions\.\d+)\.{re.escape(new)}\.", rf"\1.{old}.", key)
    key = re.sub(r"^(encoder|decoder)\.conv_norm_out\.", r"\1.norm_out.", key)
    key = key.replace(".mid_block.attentions.0.", ".mid.attn_1.").replace("conv_shortcut", "nin_shortcut")
    key = re.sub(r"\.mid_block\.resnets\.(\d)\.", lambda m: f".mid.block_{int(m[1]) + 1}.", key)
    key = re.sub(r"\.(down|up)samplers\.0\.conv\.", r".\1sample.conv.", key)
    key = re.sub(r"(_blocks\.\d+)\.attentions\.", r"\1.attn.", key)
    key = re.sub(r"(_blocks\.\d+)\.resnets\.", r"\1.block.", key)
    key = re.sub(r"^encoder\.down_blocks\.", "encoder.down.", key)
    return re.sub(r"^decoder\.up_blocks\.(\d+)\.", lambda m: f"decoder.up.{last - int(m[1])}.", key)


def vae_to_diffusers(tensors: Mapping[str, torch.Tensor], attention_names: str = "current") -> dict[str, torch.Tensor]:
    """A CompVis autoencoder (no prefix) under diffusers' names; 1x1 convolutions of attention become matrices."""
    result = {}
    for old, new in vae_keys_map(tensors, attention_names).items():
        tensor = tensors[old]
        result[new] = tensor[:, :, 0, 0] if _attention_weight(old) and tensor.ndim == 4 else tensor
    return result


def vae_to_compvis(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A diffusers autoencoder, with current or original attention names, under CompVis names (no prefix)."""
    last = _last_level(tensors, r"decoder\.up_blocks\.(\d+)\.")
    result = {}
    for key, tensor in tensors.items():
        new = _vae_key_back(key, last)
        result[new] = tensor[:, :, None, None] if _attention_weight(new) and tensor.ndim == 2 else tensor
    return result


def _attention_weight(key: str) -> bool:
    return bool(re.search(r"\.(attn_1|attn\.\d+)\.(q|k|v|proj_out)\.weight$", key))


# ---- text encoder --------------------------------------------------------------------------------------------------


def text_map(cond_stage_config) -> dict[str, str]:
    """CompVis text tower key -> transformers key (both without prefix): the same ``text_model.*`` names on both sides."""
    from ldm.modules.encoders.modules import FrozenCLIPEmbedder

    prefix = "transformer."
    keys = _meta_keys(FrozenCLIPEmbedder, _params(cond_stage_config))
    return {key.removeprefix(prefix): key.removeprefix(prefix) for key in keys}


def text_tower(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A text tower stored in either layout (with or without ``text_model.``) as ``text_model.*``, position_ids dropped.

    Other entries, such as the projection of a full CLIP model, are dropped too.
    """
    result = {}
    for key, tensor in tensors.items():
        key = f"text_model.{key}" if key.startswith(FLAT_TEXT) else key
        if key.startswith("text_model.") and not key.endswith("position_ids"):
            result[key] = tensor
    return result


# ---- whole models --------------------------------------------------------------------------------------------------


def compvis_to_diffusers(state_dict: Mapping[str, torch.Tensor]) -> dict[str, dict[str, torch.Tensor]]:
    """{'unet', 'vae', 'text_encoder'} -> tensors under diffusers' names; a part that is absent is an empty dict.

    Accepts a whole checkpoint (schedule buffers and model_ema.* are ignored) or a UNet without prefix.
    """
    parts = {name: _part(state_dict, prefix) for name, prefix in PREFIXES.items()}
    if not parts["unet"] and any(key.startswith("input_blocks.") for key in state_dict):
        parts["unet"] = dict(state_dict)
    return {
        "unet": unet_to_diffusers(parts["unet"]) if parts["unet"] else {},
        "vae": vae_to_diffusers(parts["vae"]) if parts["vae"] else {},
        "text_encoder": text_tower(parts["text_encoder"]),
    }


def diffusers_to_compvis(parts: Mapping[str, Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Inverse of `compvis_to_diffusers`: one state dict with CompVis names and prefixes of the parts that are there."""
    translate = {"unet": unet_to_compvis, "vae": vae_to_compvis, "text_encoder": text_tower}
    return {
        PREFIXES[name] + key: tensor
        for name, tensors in parts.items()
        if tensors
        for key, tensor in translate[name](tensors).items()
    }


def _part(state_dict: Mapping[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {key[len(prefix) :]: tensor for key, tensor in state_dict.items() if key.startswith(prefix)}


def _params(config) -> Mapping:
    if "target" in config:
        config = config.get("params") or {}
    return config


def _meta_keys(cls, params) -> list[str]:
    with torch.device("meta"):
        return list(cls(**params).state_dict())
