"""Which of a list of objects CLIP sees in a picture (MACE's evaluate_clip_accuracy.py): probabilities, not only the first.

leaves("images")                                # folders that hold pictures
measure(files, Clip(), OBJECTS)                 # [N, 10]
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from erasure.errors import UserError
from erasure.metrics.clip_score import Embedder, embedded_texts, probabilities
from erasure.metrics.definitions import METRICS, meaning
from erasure.metrics.image_folders import SUFFIXES, natural
from erasure.metrics.intervals import bootstrap_mean, wilson
from erasure.metrics.network_inputs import batches, full_precision, read_image

OBJECTS = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""CIFAR-10's names, MACE's ten objects."""
TEMPLATE = "a photo of the {}"
PARAPHRASES = "_paraphrases"  # a folder of an object's synonyms
_BATCH = 64


def leaves(base: str | os.PathLike) -> list[Path]:
    """The folder and those below it that hold pictures, in order. Published: those of more than 100 files. UserError for none."""
    base = Path(base)
    if not base.is_dir():
        raise UserError(f"no folder {base}")
    found = {path.parent for path in base.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()}
    if not found:
        raise UserError(f"{base} holds no images ({', '.join(SUFFIXES)})")
    return sorted(found, key=lambda path: natural(path.as_posix()))


def object_of(folder: Path, objects: Sequence[str]) -> str | None:
    """The object that a folder's name is, also with the suffix of synonyms; None for another name."""
    name = folder.name.removesuffix(PARAPHRASES).casefold()
    return next((one for one in objects if one.casefold() == name), None)


def csv_name(folder: Path) -> str:
    """MACE's name of a folder's file."""
    return folder.as_posix().strip("./").replace("/", "_") + ".csv"


@torch.inference_mode()
def measure(files: Sequence[Path], model: Embedder, objects: Sequence[str], progress: bool = True) -> np.ndarray:
    """[N, objects]: softmax of 100 cos between a picture and "a photo of the {object}". UserError for unreadable pictures."""
    prompts = [TEMPLATE.format(one) for one in objects]
    embedded = embedded_texts(prompts, model)
    texts = torch.stack([embedded[prompt] for prompt in prompts])
    found = []
    with full_precision(), tqdm(total=len(files), desc="CLIP accuracy", unit=" images", disable=not progress) as bar:
        for pixels in batches(files, lambda path: model.preprocess(read_image(path)), _BATCH):
            found.append(probabilities(model.images(torch.stack(pixels)).cpu(), texts).double().numpy())
            bar.update(len(pixels))
    table = np.concatenate(found)
    if not np.isfinite(table).all():
        raise UserError("a probability is not a number for some images: CLIP's weights are damaged")
    return table


def rows(files: Sequence[Path], table: np.ndarray, objects: Sequence[str]) -> list[list]:
    """The published CSV: ImageName and the probability of every object."""
    lines = [[path.name, *map(repr, line)] for path, line in zip(files, table.tolist(), strict=True)]
    return [["ImageName", *objects], *lines]


def scores(table: np.ndarray, objects: Sequence[str], wanted: str) -> dict:
    """Mean probability of an object, which MACE's tables call accuracy, and share of pictures whose first it is."""
    place = list(objects).index(wanted)
    first = int((table.argmax(axis=1) == place).sum())
    return {
        "object": wanted,
        "mean_probability": bootstrap_mean(table[:, place]).as_dict(),
        "argmax_accuracy": wilson(first, len(table)).as_dict(),
    }


def summary(by_folder: dict[str, dict | None], images: int, facts: dict) -> dict:
    """Folder -> `scores`, or None where its name is no object; ready for JSON."""
    return {
        "metric": meaning("clip_accuracy"),
        "interval": METRICS["clip_accuracy"].interval,
        "n_images": images,
        "per_group": by_folder,
        "definition": facts,
    }
