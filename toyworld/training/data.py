"""The training pictures: rendered once into a memory-mapped file, with captions and labels beside it."""

import json
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from erasure.runs import write_text
from toyworld.captions import draw_example
from toyworld.world import IMAGE_SIZE, OBJECTS, PEOPLE, STYLES

STYLE_CLASSES = ("photo", *STYLES)
SUBJECT_CLASSES = (*OBJECTS, *PEOPLE, "stranger", "clothed", "nude")
_CHUNK = 250


class Pictures:
    """``images`` uint8 [N, 128, 128, 3] (memory-mapped), ``captions``, classes ``style`` and ``subject`` int64 [N]."""

    def __init__(self, folder):
        folder = Path(folder)
        self.images = np.load(folder / "images.npy", mmap_mode="r")
        rows = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        self.captions = [row["caption"] for row in rows]
        self.style = torch.tensor([STYLE_CLASSES.index(row["style"] or "photo") for row in rows])
        self.subject = torch.tensor([SUBJECT_CLASSES.index(row["subject"]) for row in rows])

    def __len__(self):
        return len(self.captions)

    def batch(self, indices):
        """Pictures as float32 [B, 3, H, W] in [-1, 1]."""
        return to_float(self.images[indices.numpy()])


def to_float(images):
    """uint8 [B, H, W, 3] -> float32 [B, 3, H, W] in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def subject_of(label):
    """The subject class of a label: its object, person ('' for a stranger) or figure."""
    return label.object or label.person or label.figure or "stranger"


def render_chunk(seed, chunk, count=_CHUNK):
    """``count`` pictures with captions and labels, a function of (seed, chunk) alone."""
    rng = np.random.default_rng([seed, chunk])
    images = np.empty((count, IMAGE_SIZE, IMAGE_SIZE, 3), np.uint8)
    rows = []
    for i in range(count):
        images[i], caption, label = draw_example(rng)
        rows.append({"caption": caption, "style": label.style, "subject": subject_of(label), **asdict(label)})
        rows[-1]["style"] = label.style
    return images, rows


def prepare(folder, count, seed=0, workers=2):
    """Render ``count`` pictures into ``folder`` unless they are there already; returns :class:`Pictures`."""
    folder = Path(folder)
    if (folder / "captions.json").exists():
        pictures = Pictures(folder)
        if len(pictures) == count:
            return pictures
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "images.tmp.npy"
    shape = (count, IMAGE_SIZE, IMAGE_SIZE, 3)
    images = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
    rows = []
    chunks = [(c, min(_CHUNK, count - c * _CHUNK)) for c in range((count + _CHUNK - 1) // _CHUNK)]
    with ProcessPoolExecutor(workers) as pool:
        jobs = pool.map(render_chunk, [seed] * len(chunks), *zip(*chunks, strict=True))
        for (chunk, size), (pixels, labels) in zip(chunks, tqdm(jobs, total=len(chunks), desc="render"), strict=True):
            images[chunk * _CHUNK : chunk * _CHUNK + size] = pixels
            rows += labels
    images.flush()
    (folder / "captions.json").unlink(missing_ok=True)  # those of other pictures
    os.replace(temporary, folder / "images.npy")
    write_text(folder / "captions.json", json.dumps(rows))
    return Pictures(folder)
