"""Conditioning encoders named by model configurations."""

import json
from pathlib import Path

import torch
from torch import nn

from ldm.modules.encoders.clip_text import ClipTextConfig, ClipTextTower


class AbstractEncoder(nn.Module):
    """Base of the encoders: ``encode`` turns what a batch holds into a conditioning tensor."""

    def encode(self, *args, **kwargs):
        raise NotImplementedError


class IdentityEncoder(AbstractEncoder):
    """Returns its input."""

    def encode(self, x):
        return x

    forward = encode


class ClassEmbedder(AbstractEncoder):
    """Learned embedding of a class index: batch[key] [B] -> [B, 1, embed_dim]."""

    def __init__(self, embed_dim: int, n_classes: int = 1000, key: str = "class"):
        super().__init__()
        self.key = key
        self.embedding = nn.Embedding(n_classes, embed_dim)

    def forward(self, batch, key: str | None = None):
        return self.embedding(batch[key or self.key][:, None])

    encode = forward


class SpatialRescaler(AbstractEncoder):
    """Maps [B, C, H, W] rescaled ``n_stages`` times by ``multiplier``, then mapped to ``out_channels`` if given."""

    METHODS = ("nearest", "linear", "bilinear", "trilinear", "bicubic", "area")

    def __init__(self, n_stages=1, method="bilinear", multiplier=0.5, in_channels=3, out_channels=None, bias=False):
        super().__init__()
        if n_stages < 0 or method not in self.METHODS:
            raise ValueError(f"n_stages must not be negative and method one of {', '.join(self.METHODS)}")
        self.n_stages, self.method, self.multiplier = n_stages, method, multiplier
        self.remap_output = out_channels is not None
        if self.remap_output:
            self.channel_mapper = nn.Conv2d(in_channels, out_channels, 1, bias=bias)

    def forward(self, x):
        for _ in range(self.n_stages):
            x = nn.functional.interpolate(x, scale_factor=self.multiplier, mode=self.method)
        return self.channel_mapper(x) if self.remap_output else x

    encode = forward


class FrozenCLIPEmbedder(AbstractEncoder):
    """Prompts -> hidden states of CLIP's text tower [B, max_length, hidden_size], after its final layer norm.

    Nothing is downloaded: the weights are random until a checkpoint is loaded, unless ``version`` is a local folder
    with ``config.json`` and ``model.safetensors`` of a CLIP text encoder. Other versions only name the origin.
    The module follows its parameters' device; ``device`` can be assigned for old scripts and is then ignored.
    """

    def __init__(
        self,
        version: str = "openai/clip-vit-large-patch14",
        device=None,
        max_length: int = 77,
        hidden_size: int = 768,
        intermediate_size: int = 3072,
        num_hidden_layers: int = 12,
        num_attention_heads: int = 12,
        vocab_size: int = 49408,
        max_position_embeddings: int = 77,
        hidden_act: str = "quick_gelu",
    ):
        super().__init__()
        sizes = dict(
            vocab_size=vocab_size,
            hidden_size=hidden_size,
            intermediate_size=intermediate_size,
            num_hidden_layers=num_hidden_layers,
            num_attention_heads=num_attention_heads,
            max_position_embeddings=max_position_embeddings,
            hidden_act=hidden_act,
        )
        folder = Path(version) if version and Path(version).is_dir() else None
        if folder:
            sizes |= _sizes_from_folder(folder, sizes)
        self.max_length = max_length
        self._tokenizer = None
        self.transformer = ClipTextTower(ClipTextConfig(**sizes))
        if folder:
            self._load_folder(folder)
        self.freeze()

    @property
    def tokenizer(self):
        """CLIP's tokenizer, built at first use and shared by all embedders; assignable."""
        if self._tokenizer is None:
            from ldm.modules.encoders.tokenizer import shared_tokenizer

            return shared_tokenizer()
        return self._tokenizer

    @tokenizer.setter
    def tokenizer(self, value):
        self._tokenizer = value

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.transformer.device

    @device.setter
    def device(self, value):
        pass  # old scripts assign it after moving the model; the parameters' device is what counts

    def freeze(self):
        """No gradients for the parameters, evaluation mode."""
        self.requires_grad_(False)
        self.eval()

    def forward(self, text):
        """list of B prompts -> [B, max_length, hidden_size]; longer prompts are cut, shorter ones padded."""
        ids = self.tokenizer(
            text, truncation=True, max_length=self.max_length, padding="max_length", return_tensors="pt"
        ).input_ids
        return self.transformer(input_ids=ids.to(self.device)).last_hidden_state

    encode = forward

    def _load_folder(self, folder: Path):
        from safetensors.torch import load_file

        weights = load_file(folder / "model.safetensors")
        heads = (
            "text_model.",
            "embeddings.",
            "encoder.",
            "final_layer_norm.",
        )  # not the image tower
        weights = {k: v for k, v in weights.items() if k.startswith(heads)}
        self.transformer.load_state_dict(weights, assign=self.device.type == "meta")


def _sizes_from_folder(folder: Path, wanted: dict) -> dict:
    """The sizes given in a folder's config.json (of a text encoder, or of a full CLIP model)."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config = config.get("text_config", config)
    return {name: config[name] for name in wanted if name in config}
