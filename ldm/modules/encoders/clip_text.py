"""The text tower of CLIP, with the parameter names of Stable Diffusion v1 checkpoints.

Written here rather than taken from a library so that the names stay the same whatever library versions are installed:
a text encoder whose keys do not match is otherwise left random without any sign of it.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

LAYER_NORM_EPS = 1e-5
_FLAT_KEYS = ("embeddings.", "encoder.", "final_layer_norm.")


def quick_gelu(x):
    """u * sigmoid(1.702 u), the activation of the OpenAI CLIP models."""
    return x * torch.sigmoid(1.702 * x)


ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": F.gelu}


@dataclass(frozen=True)
class ClipTextConfig:
    """Sizes of the tower; the defaults are the text encoder of Stable Diffusion v1 (CLIP ViT-L/14)."""

    vocab_size: int = 49408
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    eos_token_id: int | None = None  # None: 49407, or the last id of a smaller vocabulary

    def __post_init__(self):
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(f"hidden_size {self.hidden_size} is not divisible by {self.num_attention_heads} heads")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act {self.hidden_act!r} is not one of {', '.join(ACTIVATIONS)}")
        if self.eos_token_id is None:
            object.__setattr__(self, "eos_token_id", min(49407, self.vocab_size - 1))


class ClipTextOutput(NamedTuple):
    """What the tower returns; also usable by position, ``output[0]`` being the last hidden state."""

    last_hidden_state: torch.Tensor  # [B, N, C], after the final layer norm
    pooler_output: torch.Tensor | None  # [B, C], at the first end-of-text token; None without token ids
    hidden_states: tuple[torch.Tensor, ...] | None = None  # embeddings, then each layer, before the final layer norm


class ClipAttention(nn.Module):
    """Causal multi-head self-attention with biased projections."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.heads = config.num_attention_heads
        size = config.hidden_size
        self.k_proj = nn.Linear(size, size)
        self.v_proj = nn.Linear(size, size)
        self.q_proj = nn.Linear(size, size)
        self.out_proj = nn.Linear(size, size)

    def forward(self, x):
        """[B, N, C] -> [B, N, C]; position i attends to 0..i, padding included (no attention mask)."""
        q, k, v = (
            proj(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out_proj(out.transpose(1, 2).flatten(2))


class ClipMlp(nn.Module):
    """fc1, activation, fc2."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.activation = ACTIVATIONS[config.hidden_act]
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x):
        return self.fc2(self.activation(self.fc1(x)))


class ClipLayer(nn.Module):
    """One pre-norm transformer layer."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.self_attn = ClipAttention(config)
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)
        self.mlp = ClipMlp(config)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, x):
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class ClipEmbeddings(nn.Module):
    """Token embedding plus learned position embedding."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.token_embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.position_embedding = nn.Embedding(config.max_position_embeddings, config.hidden_size)

    def forward(self, input_ids=None, inputs_embeds=None):
        """ids [B, N], or token embeddings [B, N, C] in their place (positions are added to both)."""
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("give input_ids or inputs_embeds")
            inputs_embeds = self.token_embedding(input_ids)
        length, limit = inputs_embeds.shape[1], self.position_embedding.num_embeddings
        if length > limit:
            raise ValueError(f"{length} tokens are more than the text encoder's {limit} positions")
        return inputs_embeds + self.position_embedding.weight[:length]


class ClipEncoder(nn.Module):
    """The stack of layers; returns every hidden state when asked."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.layers = nn.ModuleList(ClipLayer(config) for _ in range(config.num_hidden_layers))

    def forward(self, x, keep_all=False):
        """[B, N, C] -> (output, tuple of all hidden states or None)."""
        states = [x]
        for layer in self.layers:
            x = layer(x)
            if keep_all:
                states.append(x)
        return x, tuple(states) if keep_all else None


class ClipTextModel(nn.Module):
    """Embeddings, encoder and final layer norm (the ``text_model`` level of the checkpoint names)."""

    def __init__(self, config: ClipTextConfig):
        super().__init__()
        self.eos_token_id = config.eos_token_id
        self.embeddings = ClipEmbeddings(config)
        self.encoder = ClipEncoder(config)
        self.final_layer_norm = nn.LayerNorm(config.hidden_size, eps=LAYER_NORM_EPS)

    def forward(self, input_ids=None, inputs_embeds=None, output_hidden_states=False) -> ClipTextOutput:
        hidden, states = self.encoder(self.embeddings(input_ids, inputs_embeds), keep_all=output_hidden_states)
        hidden = self.final_layer_norm(hidden)
        pooled = None
        if input_ids is not None:
            ends = (input_ids == self.eos_token_id).int().argmax(dim=-1)  # the first one: padding is the same token
            pooled = hidden[torch.arange(hidden.shape[0], device=hidden.device), ends.to(hidden.device)]
        return ClipTextOutput(hidden, pooled, states)


class ClipTextTower(nn.Module):
    """CLIP text encoder: token ids [B, N] -> hidden states [B, N, C], without a padding mask.

    The state dict always reads ``text_model.*``. Loading accepts the names with and without ``text_model.`` and ignores
    stored ``position_ids``.
    """

    def __init__(self, config: ClipTextConfig | None = None):
        super().__init__()
        self.config = config or ClipTextConfig()
        self.text_model = ClipTextModel(self.config)
        self.register_load_state_dict_pre_hook(_accept_both_layouts)
        self.reset_parameters()

    def forward(self, input_ids=None, inputs_embeds=None, output_hidden_states=False) -> ClipTextOutput:
        """``inputs_embeds`` [B, N, C] replaces the token embeddings; give ``input_ids`` too where pooling is wanted."""
        return self.text_model(input_ids, inputs_embeds, output_hidden_states)

    @property
    def device(self):
        """Where the parameters are."""
        return self.text_model.final_layer_norm.weight.device

    @property
    def dtype(self):
        """Type of the parameters."""
        return self.text_model.final_layer_norm.weight.dtype

    def get_input_embeddings(self) -> nn.Embedding:
        """The token embedding."""
        return self.text_model.embeddings.token_embedding

    def reset_parameters(self):
        """Initialisation of CLIP: linears scaled by width, outputs of residual branches also by depth."""
        width = self.config.hidden_size**-0.5
        branch = width * (2 * self.config.num_hidden_layers) ** -0.5
        embeddings = self.text_model.embeddings
        nn.init.normal_(embeddings.token_embedding.weight, std=0.02)
        nn.init.normal_(embeddings.position_embedding.weight, std=0.01)
        for layer in self.text_model.encoder.layers:
            attention, mlp = layer.self_attn, layer.mlp
            scales = {attention.q_proj: width, attention.k_proj: width, attention.v_proj: width}
            scales |= {attention.out_proj: branch, mlp.fc1: (2 * self.config.hidden_size) ** -0.5, mlp.fc2: branch}
            for linear, std in scales.items():
                nn.init.normal_(linear.weight, std=std)
                nn.init.zeros_(linear.bias)


def _accept_both_layouts(module, state_dict, prefix, *_):
    """Load hook: drop position_ids and insert the ``text_model.`` level where a file lacks it."""
    for key in [key for key in state_dict if key.startswith(prefix)]:
        name = key[len(prefix) :]
        if name.endswith("position_ids"):
            del state_dict[key]
        elif name.startswith(_FLAT_KEYS):
            state_dict[f"{prefix}text_model.{name}"] = state_dict.pop(key)
