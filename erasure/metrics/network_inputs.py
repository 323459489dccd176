"""A picture as each published network was fed it: `Callable[[PIL image], float32 tensor [3, h, w]]`.

Resizing is Pillow's bilinear filter with antialiasing, as torchvision's transforms do it on a picture; only RECE resized
with OpenCV, which has none.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from erasure.errors import UserError

Preprocess = Callable[[Image.Image], torch.Tensor]
Loaded = TypeVar("Loaded")

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
INCEPTION_SIZE = 299
_AHEAD = 3  # batches that are read while the network is busy


def read_image(path: str | os.PathLike, data: bytes | None = None) -> Image.Image:
    """An RGB picture, read whole; UserError for a file that is none. data: the file's contents, if they are at hand."""
    try:
        with Image.open(path if data is None else io.BytesIO(data)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise UserError(f"{Path(path)} is not an image that can be read") from None


def levels(image: Image.Image) -> torch.Tensor:
    """[3, h, w] as it is, 0 ... 255."""
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).float()


def to_tensor(image: Image.Image) -> torch.Tensor:
    """[3, h, w] in 0 ... 1."""
    return levels(image).div(255)


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


def clip(size: int = 224) -> Preprocess:
    """CLIP's image tower: shorter side to `size` (bicubic), its centre, normalised with CLIP's mean and deviation."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize

    resize = Resize(size, InterpolationMode.BICUBIC)
    return Compose([resize, CenterCrop(size), to_tensor, Normalize(CLIP_MEAN, CLIP_STD)])


def inception_clean(image: Image.Image) -> torch.Tensor:
    """clean-fid's mode "clean" (Parmar et al. 2022): 299 x 299 by Pillow's bicubic on floats, values 0 ... 255, not rounded."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float32)
    size = (INCEPTION_SIZE, INCEPTION_SIZE)
    planes = [np.asarray(Image.fromarray(pixels[..., c]).resize(size, Image.Resampling.BICUBIC)) for c in range(3)]
    return torch.from_numpy(np.stack(planes)).clamp(0, 255)


def inception_bilinear(image: Image.Image) -> torch.Tensor:
    """pytorch-fid's (SepCE's FID_eval.py): 299 x 299, bilinear without antialiasing; 0 ... 255, where its network had 0 and 1 at -1 and 1.

    Ours takes (x - 128) / 128, so black is 0 and white 256.
    """
    size = (INCEPTION_SIZE, INCEPTION_SIZE)
    return torch.nn.functional.interpolate(to_tensor(image)[None], size, mode="bilinear", align_corners=False)[0] * 256


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """No TF32 in a GPU's convolutions, which is on by default and moves scores in the third digit."""
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def batches(files: Sequence[Path], load: Callable[[Path], Loaded], size: int) -> Iterator[list[Loaded]]:
    """What `load` makes of the files, `size` at a time and in order; threads read a few batches ahead, never all."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: deque[list[Future[Loaded]]] = deque()
        try:
            for start in range(0, len(files), size):
                waiting.append([pool.submit(load, path) for path in files[start : start + size]])
                if len(waiting) > _AHEAD:
                    yield [one.result() for one in waiting.popleft()]
            while waiting:
                yield [one.result() for one in waiting.popleft()]
        finally:  # after an image that cannot be read the rest need not be
            pool.shutdown(cancel_futures=True)
