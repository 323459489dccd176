"""Weights of CLIP as the transformers package names them (openai/clip-vit-base-patch32) -> as open_clip does."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

_WHOLE = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm": "ln_final",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm": "visual.ln_pre",  # sic
    "vision_model.post_layernorm": "visual.ln_post",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_IN_LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip
_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")


def to_open_clip(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of open_clip; a file that has these already stays as it is. Queries, keys and values become one matrix."""
    if not any(name.startswith("text_model.") for name in tensors):
        return dict(tensors)
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, _, end = name.rpartition(".")
        if name in _WHOLE:
            renamed[_WHOLE[name]] = tensor
        elif stem in _WHOLE:
            renamed[f"{_WHOLE[stem]}.{end}"] = tensor
        elif name in _TRANSPOSED:
            renamed[_TRANSPOSED[name]] = tensor.T.contiguous()
        elif match := _LAYER.fullmatch(name):
            tower, number, part, end = match.groups()
            block = ("visual." if tower == "vision" else "") + f"transformer.resblocks.{number}"
            if part in _IN_LAYER:
                renamed[f"{block}.{_IN_LAYER[part]}.{end}"] = tensor
            elif part == "self_attn.q_proj":
                parts = [tensors[name.replace("q_proj", which)] for which in ("q_proj", "k_proj", "v_proj")]
                renamed[f"{block}.attn.in_proj_{end}"] = torch.cat(parts)
    return renamed
