"""OpenAI's CLIP as transformers runs it, from a folder that the user has; nothing is ever downloaded.

    clip = Clip()                              # models/clip/clip-vit-base-patch32
    clip.texts(["a cat"]), clip.images(clip.preprocess(picture)[None])       # embeddings [1, 512]

The folder is the published one: config.json and model.safetensors (or pytorch_model.bin). The vocabulary is the one that the
text encoder here uses, so the tokenizer's files are not needed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from erasure.errors import UserError
from erasure.metrics.user_weights import cache_folder, locate
from erasure.runs import ROOT, sha256_file

NAME = "clip-vit-base-patch32"
FOLDER = f"models/clip/{NAME}"
_CONFIG, _WEIGHTS = "config.json", ("model.safetensors", "pytorch_model.bin")
_SEED = 0  # of random weights


def find_folder(given: str | os.PathLike | None, flag: str = "--clip") -> Path:
    """The folder given, else FOLDER, else the one in the Hugging Face libraries' own cache.

    UserError, saying which files go where, if there is none. Imports no torch.
    """
    hub = cache_folder("HF_HOME", "huggingface") / "hub" / f"models--openai--{NAME}" / "snapshots"
    missing = (
        f"no CLIP model: get {_CONFIG} and {_WEIGHTS[0]} (or {_WEIGHTS[1]}, about 600 MB) of "
        f"https://huggingface.co/openai/{NAME} and put them into the folder {ROOT / FOLDER}"
    )
    return locate(given, flag, (Path(FOLDER), *sorted(hub.glob("*"))), missing, _usable)


def _usable(folder: Path) -> bool:
    return (folder / _CONFIG).is_file() and any((folder / name).is_file() for name in _WEIGHTS)


class Clip:
    """An `Embedder` (see clip_score). folder: None: where `find_folder` looks. random: fixed random weights, to try scripts.

    `identity` says what it is. UserError for weights that are not there or not CLIP's.
    """

    def __init__(self, folder: str | os.PathLike | None = None, random: bool = False, device: str = "cpu"):
        from erasure.metrics import network_inputs
        from ldm.modules.encoders.tokenizer import ClipTokenizer

        self._model, self.identity = _random() if random else _load(find_folder(folder))
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


def _load(folder: Path):
    from transformers import CLIPModel
    from transformers.utils import logging

    from erasure.checkpoint_files import shapes

    weights = next(path for name in _WEIGHTS if (path := folder / name).is_file())
    shapes(weights)  # a damaged file is refused here, and no pickle is run
    logging.set_verbosity_error()  # it would report the position_ids of older files
    logging.disable_progress_bar()
    try:
        model, report = CLIPModel.from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{folder} is not a CLIP model ({error})"[:300]) from None
    if absent := sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"])):
        raise UserError(f"{folder} lacks {len(absent)} of CLIP's tensors, e.g. {absent[0]}")
    facts = {"network": folder.name, "weights": weights.name}
    return model.float(), facts | {"sha256": sha256_file(weights)}


def _random():
    import torch
    from transformers import CLIPConfig, CLIPModel

    shallow = {"num_hidden_layers": 2}  # else as transformers' defaults, which are ViT-B/32
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        model = CLIPModel(CLIPConfig(text_config=shallow, vision_config=shallow))
    return model, {"network": f"{NAME} of two layers", "random_weights": True}
