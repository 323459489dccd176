"""A picture as each published network was fed it: `Callable[[PIL image], float32 tensor [3, h, w]]`.

Resizing is Pillow's bilinear filter with antialiasing, as torchvision's transforms do it on a picture; only RECE resized
with OpenCV, which has none.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from erasure.errors import UserError

Preprocess = Callable[[Image.Image], torch.Tensor]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_image(path: str | os.PathLike) -> Image.Image:
    """An RGB picture, read whole; UserError for a file that is none."""
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UserError(f"{Path(path)} is not an image that can be read") from None


def to_tensor(image: Image.Image) -> torch.Tensor:
    """[3, h, w] in 0 ... 1."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float().div(255)


def resized(size: int) -> Callable[[Image.Image], Image.Image]:
    """The shorter side becomes `size` pixels, the longer one follows."""
    from torchvision.transforms import Resize

    return Resize(size)


def square(size: int, resize: int | None = None) -> Preprocess:
    """SepCE's classifiers: shorter side to `resize` (None: `size`), the centre of size x size, values 0 ... 1."""
    from torchvision.transforms import CenterCrop, Compose

    return Compose([resized(resize or size), CenterCrop(size), to_tensor])


def imagenet(size: int = 224, resize: int = 256) -> Preprocess:
    """torchvision's networks of ImageNet: `square`, then normalised with the data set's mean and deviation."""
    from torchvision.transforms import Compose, Normalize

    return Compose([square(size, resize), Normalize(IMAGENET_MEAN, IMAGENET_STD)])


def lpips_esd(size: int = 64) -> Preprocess:
    """ESD's, UCE's and SepCE's lpips_eval.py: shorter side to `size`, values -1 ... 1."""
    from torchvision.transforms import Compose

    return Compose([resized(size), to_tensor, lambda x: (x - 0.5) * 2])


def lpips_rece(size: int = 64) -> Preprocess:
    """RECE's lpips_score.py: exactly size x size by OpenCV's bilinear without antialiasing, values -1 ... 1."""
    import cv2

    def feed(image: Image.Image) -> torch.Tensor:
        pixels = cv2.resize(np.asarray(image.convert("RGB")), (size, size), interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(pixels).permute(2, 0, 1).float() / (255.0 / 2.0) - 1.0

    return feed


def full_resolution(size: int = 0) -> Preprocess:
    """As it is, values -1 ... 1."""
    return lambda image: to_tensor(image) * 2 - 1
