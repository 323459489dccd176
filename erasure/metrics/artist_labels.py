"""Artists that a user's classifier sees in pictures, as transformers' image-classification pipeline names them.

    classifier = ArtistLabels("checkpoints/style_classifier")
    classifier([pixels])                 # [[{"label": "vincent-van-gogh", "score": 0.93}, ...]], the best first

The folder is as published: config.json, model.safetensors or pytorch_model.bin, and preprocessor_config.json. UnlearnDiffAtk's is a
ViT of 129 artists. Nothing is downloaded.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from erasure.errors import UserError
from erasure.metrics.user_weights import locate
from erasure.runs import read_json, sha256_file

TOP = 10
_CONFIG, _WEIGHTS, _INPUTS = "config.json", ("model.safetensors", "pytorch_model.bin"), "preprocessor_config.json"
_BATCH = 16


def find_folder(given: str | os.PathLike, flag: str) -> Path:
    """UserError, before anything heavy loads, for a folder that is no classifier's."""
    missing = f"a folder with {_CONFIG} and {' or '.join(_WEIGHTS)} is expected"
    return locate(given, flag, (), missing, lambda path: (path / _CONFIG).is_file() and _weights_in(path) is not None)


def _weights_in(folder: Path) -> Path | None:
    return next((path for name in _WEIGHTS if (path := folder / name).is_file()), None)


class ArtistLabels:
    """The classifier of a folder. `identity` says what it is. UserError for one that transformers does not make."""

    def __init__(self, folder: str | os.PathLike, device: str = "cpu", top: int = TOP):
        from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, AutoConfig
        from transformers.utils import logging

        from erasure.checkpoint_files import read_tensors

        folder = Path(folder)
        weights = _weights_in(folder)
        logging.disable_progress_bar()
        try:
            config = AutoConfig.from_pretrained(folder, local_files_only=True)
            kind = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING[type(config)]
            tensors = read_tensors(weights)
            model, report = kind.from_pretrained(None, config=config, state_dict=tensors, output_loading_info=True)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise UserError(f"{folder} is not a classifier of pictures ({error})"[:300]) from None
        if absent := sorted(report["missing_keys"]) + sorted(map(str, report["mismatched_keys"])):
            raise UserError(f"{weights} lacks {len(absent)} of the classifier's tensors, e.g. {absent[0]}")
        self._model = model.float().eval().to(device)
        self._names, self._inputs, self.top = config.id2label, _Inputs(folder / _INPUTS), top
        self.identity = {"weights": f"{folder.name}/{weights.name}", "sha256": sha256_file(weights), "labels": len(self._names)}  # fmt: skip

    def __call__(self, pictures: Sequence[np.ndarray]) -> list[list[dict[str, Any]]]:
        """The `top` most probable labels with their scores, of pictures uint8 [H, W, 3]."""
        import torch

        found = []
        for at in range(0, len(pictures), _BATCH):
            pixels = torch.from_numpy(np.stack([self._inputs(p) for p in pictures[at : at + _BATCH]]))
            with torch.inference_mode():
                scores = self._model(pixel_values=pixels.to(self._model.device)).logits.float().softmax(-1).cpu()
            best = scores.topk(min(self.top, scores.shape[-1]))
            for values, indices in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                found.append(
                    [{"label": self._names[i], "score": value} for i, value in zip(indices, values, strict=True)]
                )
        return found


class _Inputs:
    """Pictures as the classifier was fed: resized to its size, scaled, normalised. ViT's defaults where the file says nothing."""

    def __init__(self, path: Path):
        given = read_json(path) if path.is_file() else {}
        size = given.get("size", 224)
        size = size if isinstance(size, dict) else {"height": size, "width": size}
        if not {"height", "width"} <= size.keys() or given.get("do_center_crop"):
            raise UserError(f"{path}: pictures that are cut or keep their shape are not part of this version")
        self.size = (int(size["width"]), int(size["height"]))
        self.filter = given.get("resample", 2)
        self.mean, self.std = (np.float32(given.get(name, [0.5] * 3)) for name in ("image_mean", "image_std"))

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """[3, h, w] float32."""
        from PIL import Image

        pixels = np.asarray(Image.fromarray(picture).resize(self.size, self.filter), np.float32) / 255
        return ((pixels - self.mean) / self.std).transpose(2, 0, 1)
