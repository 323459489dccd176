"""OpenAI's CLIP as transformers runs it, from a file that the user has; nothing is ever downloaded.

    clip = Clip()                              # models/clip/ViT-B-32.safetensors, which UCE's debiasing uses too
    clip.texts(["a cat"]), clip.images(clip.preprocess(picture)[None])       # embeddings [1, 512]

A folder as published (config.json with model.safetensors or pytorch_model.bin) does as well, and may hold another CLIP. The
vocabulary is the one that the text encoder here uses, so the tokenizer's files are not needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics.user_weights import cache_folder, locate
from erasure.runs import ROOT, sha256_file


@dataclass(frozen=True)
class Version:
    """One of OpenAI's models: its name in the hub, where a bare file of it lies, its size."""

    name: str
    file: str
    megabytes: int
    text: dict = field(default_factory=dict)  # what differs from transformers' defaults, which are ViT-B/32's
    vision: dict = field(default_factory=dict)
    projection: int = 512

    @property
    def source(self) -> str:
        return f"https://huggingface.co/openai/{self.name}"


_LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_LARGE_VISION = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14,
}  # fmt: skip
VERSIONS = {
    "base": Version("clip-vit-base-patch32", "models/clip/ViT-B-32.safetensors", 605),
    "large": Version(
        "clip-vit-large-patch14", "models/clip/ViT-L-14.safetensors", 1710, _LARGE_TEXT, _LARGE_VISION, 768
    ),
}
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
_SEED = 0  # of random weights


def find_weights(given: str | os.PathLike | None, flag: str = "--clip", version: str = "base") -> Path:
    """The file given or the one in the folder given, else that of a version: its bare file, a folder of its name beside that or
    in Hugging Face's cache.

    UserError, saying which file goes where, if there is none. Imports no torch.
    """
    one = VERSIONS[version]
    hub = cache_folder("HF_HOME", "huggingface") / "hub" / f"models--openai--{one.name}" / "snapshots"
    missing = f"no CLIP model: get {_WEIGHTS[0]} of {one.source} ({one.megabytes} MB) and save it as {ROOT / one.file}"
    places = (Path(one.file), Path(one.file).with_name(one.name), *sorted(hub.glob("*")))
    found = locate(given, flag, places, missing, _usable)
    return _weights_in(found) or found


def _usable(path: Path) -> bool:
    return path.is_file() or ((path / _CONFIG).is_file() and _weights_in(path) is not None)


def _weights_in(folder: Path) -> Path | None:
    return next((path for name in _WEIGHTS if (path := folder / name).is_file()), None)


class Clip:
    """An `Embedder` (see clip_score). path: None: where `find_weights` looks for the version. random: fixed random weights, to try scripts.

    `identity` says what it is. UserError for weights that are not there or not CLIP's.
    """

    def __init__(
        self, path: str | os.PathLike | None = None, random: bool = False, device: str = "cpu", version: str = "base"
    ):
        from erasure.metrics import network_inputs
        from ldm.modules.encoders.tokenizer import ClipTokenizer

        one = VERSIONS[version]
        self._model, self.identity = _random(one) if random else _load(find_weights(path, version=version), one)
        self._model.eval().to(device)
        self.device = device
        config = self._model.config
        self._tokenizer = ClipTokenizer(model_max_length=config.text_config.max_position_embeddings)
        self.preprocess = network_inputs.clip(config.vision_config.image_size)
        self.scale = float(self._model.logit_scale.detach().exp())

    def images(self, pixels):
        """[B, D], not normalised, of pictures [B, 3, h, w] as `preprocess` makes them."""
        return self._model.visual_projection(self._model.vision_model(pixels.to(self.device)).pooler_output)

    def texts(self, prompts: Sequence[str]):
        """[B, D], not normalised; a prompt is cut off at 77 tokens."""
        ids = self._tokenizer(list(prompts), truncation=True, padding="max_length", return_tensors="pt")["input_ids"]
        return self._model.text_projection(self._model.text_model(ids.to(self.device)).pooler_output)


def _load(path: Path, version: Version):
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    from erasure.checkpoint_files import read_tensors

    logging.set_verbosity_error()  # it would report the position_ids of older files
    logging.disable_progress_bar()
    beside = path.with_name(_CONFIG)
    try:
        config = CLIPConfig.from_pretrained(beside) if beside.is_file() else _config(version)
        tensors = read_tensors(path)
        model, report = CLIPModel.from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a CLIP model ({error})"[:300]) from None
    if absent := sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"])):
        raise UserError(f"{path} lacks {len(absent)} of CLIP's tensors under transformers' names, e.g. {absent[0]}")
    name = path.parent.name if beside.is_file() else version.name
    return model.float(), {"network": name, "weights": path.name, "sha256": sha256_file(path)}


def _config(version: Version, **both):
    from transformers import CLIPConfig

    text, vision = version.text | both, version.vision | both
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=version.projection)


def _random(version: Version):
    import torch
    from transformers import CLIPModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = CLIPModel(_config(version, num_hidden_layers=2))
    return model, {"network": f"{version.name} of two layers", "random_weights": True}
