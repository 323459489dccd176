"""CLIP score: how well a picture fits a text, as the angle between their embeddings.

Formulas over embeddings [N, D], and the score of matched pictures with any model that embeds both:

    values = measure(match("images").pairs, Clip())        # 100 cos, one a picture
    mean, deviation = mean_and_deviation(values)           # as CPE's script prints
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from erasure.errors import UserError
from erasure.metrics.definitions import meaning
from erasure.metrics.image_prompts import ImagePrompt, Match
from erasure.metrics.intervals import bootstrap_mean
from erasure.metrics.network_inputs import Preprocess, batches, full_precision, read_image

SCALE = 100.0
"""exp(logit_scale) of all of OpenAI's CLIP models, which the tables' scores are in."""
HESSEL = 2.5
"""Factor of the score of Hessel et al. (2021), w in their equation 1."""
_BATCH = 64


class Embedder(Protocol):
    """CLIP: `preprocess` for a picture, embeddings of a batch of them and of texts."""

    preprocess: Preprocess
    scale: float

    def images(self, pixels: Tensor) -> Tensor: ...

    def texts(self, prompts: Sequence[str]) -> Tensor: ...


# ---- formulas ------------------------------------------------------------------------------------------------------


def logits(images: Tensor, texts: Tensor, scale: float = SCALE) -> Tensor:
    """[N, M]: `scale` times the cosine of every picture [N, D] with every text [M, D]; transformers' logits_per_image."""
    return scale * F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T


def paired(images: Tensor, texts: Tensor, scale: float = SCALE) -> Tensor:
    """[N]: `scale` times the cosine of each picture with its own text."""
    return scale * (F.normalize(images, dim=-1) * F.normalize(texts, dim=-1)).sum(dim=-1)


def hessel(cosines: Tensor) -> Tensor:
    """max(0, 2.5 cos), as SPM reports it."""
    return (HESSEL * cosines).clamp_min(0)


def probabilities(images: Tensor, texts: Tensor) -> Tensor:
    """[N, M]: softmax over the texts of 100 cos (MACE's objects, Q16's two learned prompts)."""
    return logits(images, texts).softmax(dim=-1)


def nearer(images: Tensor, concept: Tensor, anchor: Tensor) -> Tensor:
    """[N] of bool: a picture fits the text of its concept better than that of its anchor; SPM's erasing rate is the rest."""
    return paired(images, concept) > paired(images, anchor)


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation over pictures."""
    return float(np.mean(values)), float(np.std(values))


# ---- measuring -----------------------------------------------------------------------------------------------------


@torch.inference_mode()
def measure(
    pairs: Sequence[ImagePrompt], model: Embedder, progress: bool = True, batch_size: int = _BATCH
) -> list[float]:
    """The score of every picture, in order. UserError for one that cannot be read, and for damaged weights."""
    texts = embedded_texts({pair.prompt: None for pair in pairs}, model, batch_size)
    values: list[float] = []
    with full_precision(), tqdm(total=len(pairs), desc="CLIP score", unit=" images", disable=not progress) as bar:
        for pixels in batches([p.file for p in pairs], lambda path: model.preprocess(read_image(path)), batch_size):
            own = torch.stack([texts[pair.prompt] for pair in pairs[len(values) : len(values) + len(pixels)]])
            values.extend(paired(model.images(torch.stack(pixels)).cpu(), own, model.scale).double().tolist())
            bar.update(len(pixels))
    if not np.isfinite(values).all():
        raise UserError("the CLIP score is not a number for some images: CLIP's weights are damaged")
    return values


def embedded_texts(prompts: Sequence[str] | dict[str, None], model: Embedder, batch_size: int = _BATCH) -> dict:
    """prompt -> embedding [D] on the CPU, each prompt embedded once."""
    prompts = list(prompts)
    parts = [model.texts(prompts[start : start + batch_size]).cpu() for start in range(0, len(prompts), batch_size)]
    return dict(zip(prompts, torch.cat(parts), strict=True))


# ---- files ---------------------------------------------------------------------------------------------------------


def per_image(pairs: Sequence[ImagePrompt], values: Sequence[float]) -> list[list]:
    """Rows for a CSV, the header first."""
    lines = [["file", "prompt", "clip_score"]]
    return lines + [[pair.file.name, pair.prompt, repr(value)] for pair, value in zip(pairs, values, strict=True)]


def summary(found: Match, values: Sequence[float], definition: dict) -> dict:
    """Mean with its interval, deviation, and what was measured how; ready for JSON."""
    mean, deviation = mean_and_deviation(values)
    return {
        "metric": meaning("clip_score"),
        "value": bootstrap_mean(values).as_dict() | {"value": mean},
        "standard_deviation": deviation,
        "interval": "bootstrap of the images, 95 %",
        "n_images": len(values),
        "prompts_from": found.source,
        "n_unmatched": len(found.unmatched),
        "unmatched": found.unmatched,
        "n_missing": len(found.missing),
        "missing": found.missing,
        "definition": definition,
    }
