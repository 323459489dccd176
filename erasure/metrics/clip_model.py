"""OpenAI's CLIP as transformers runs it, from a file that the user has; nothing is ever downloaded.

    clip = Clip()                              # models/clip/ViT-B-32.safetensors, which UCE's debiasing uses too
    clip.texts(["a cat"]), clip.images(clip.preprocess(picture)[None])       # embeddings [1, 512]

A folder as published (config.json with model.safetensors or pytorch_model.bin) does as well, and may hold another CLIP. The
vocabulary is the one that the text encoder here uses, so the tokenizer's files are not needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics.user_weights import cache_folder, locate
from erasure.runs import ROOT, sha256_file

NAME = "clip-vit-base-patch32"
FILE = "models/clip/ViT-B-32.safetensors"
_FOLDER = f"models/clip/{NAME}"
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
_SEED = 0  # of random weights


def find_weights(given: str | os.PathLike | None, flag: str = "--clip") -> Path:
    """The file given or the one in the folder given, else FILE, else that of a folder `NAME` beside it or in Hugging Face's cache.

    UserError, saying which file goes where, if there is none. Imports no torch.
    """
    hub = cache_folder("HF_HOME", "huggingface") / "hub" / f"models--openai--{NAME}" / "snapshots"
    missing = (
        f"no CLIP model: get {_WEIGHTS[0]} of https://huggingface.co/openai/{NAME} (605 MB) and save it as "
        f"{ROOT / FILE}"
    )
    found = locate(given, flag, (Path(FILE), Path(_FOLDER), *sorted(hub.glob("*"))), missing, _usable)
    return _weights_in(found) or found


def _usable(path: Path) -> bool:
    return path.is_file() or ((path / _CONFIG).is_file() and _weights_in(path) is not None)


def _weights_in(folder: Path) -> Path | None:
    return next((path for name in _WEIGHTS if (path := folder / name).is_file()), None)


class Clip:
    """An `Embedder` (see clip_score). path: None: where `find_weights` looks. random: fixed random weights, to try scripts.

    `identity` says what it is. UserError for weights that are not there or not CLIP's.
    """

    def __init__(self, path: str | os.PathLike | None = None, random: bool = False, device: str = "cpu"):
        from erasure.metrics import network_inputs
        from ldm.modules.encoders.tokenizer import ClipTokenizer

        self._model, self.identity = _random() if random else _load(find_weights(path))
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


def _load(path: Path):
    from transformers import CLIPConfig, CLIPModel
    from transformers.utils import logging

    from erasure.checkpoint_files import read_tensors

    logging.set_verbosity_error()  # it would report the position_ids of older files
    logging.disable_progress_bar()
    beside = path.with_name(_CONFIG)
    try:
        config = CLIPConfig.from_pretrained(beside) if beside.is_file() else CLIPConfig()  # its defaults are ViT-B/32
        tensors = read_tensors(path)
        model, report = CLIPModel.from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{path} is not a CLIP model ({error})"[:300]) from None
    if absent := sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"])):
        raise UserError(f"{path} lacks {len(absent)} of CLIP's tensors under transformers' names, e.g. {absent[0]}")
    name = path.parent.name if beside.is_file() else NAME
    return model.float(), {"network": name, "weights": path.name, "sha256": sha256_file(path)}


def _random():
    import torch
    from transformers import CLIPConfig, CLIPModel

    shallow = {"num_hidden_layers": 2}  # else as transformers' defaults, which are ViT-B/32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = CLIPModel(CLIPConfig(text_config=shallow, vision_config=shallow))
    return model, {"network": f"{NAME} of two layers", "random_weights": True}
