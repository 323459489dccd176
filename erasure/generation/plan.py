"""What is to be drawn, what an image was drawn from, and what a folder holds already.

Every image carries, in its PNG header, a hash of all it depends on. So an image and the record of its origin appear in one
step, and a run that was killed at any moment is continued without a list that could disagree with the files.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image as Picture
from PIL.PngImagePlugin import PngInfo

from erasure.errors import UserError
from erasure.generation.presets import NAMINGS, GenerationSettings
from erasure.generation.rows import of_row
from erasure.prompts import Row, ids_cell
from erasure.runs import atomic_path

STAMP = "made-from"
_STAMP_VERSION = 1
_PLACES = ("name", "path", "config_path", "file")  # where something was found says nothing about what it is
_IN_WEIGHTS = ("tensors", "checkpoint")  # kinds of edits that are nothing but other weights
_TEMPORARY = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}\.tmp\.\w+")


@dataclass(frozen=True)
class Image:
    """One image to draw: number k of a row."""

    row: Row
    k: int
    file: str
    width: int  # pixels
    height: int
    guidance: float

    def record(self) -> dict[str, Any]:
        """For the manifest."""
        given = {} if self.row.token_ids is None else {"token_ids": ids_cell(self.row.token_ids)}
        return given | {
            "case_number": self.row.case_number,
            "k": self.k,
            "prompt": self.row.prompt,
            "evaluation_seed": self.row.evaluation_seed,
            "guidance": self.guidance,
            "width": self.width,
            "height": self.height,
        }


def images_of(rows: Iterable[Row], s: GenerationSettings, multiple: int) -> list[Image]:
    """The images of `rows`, by size, case and number, whatever the order of the rows.

    multiple: what width and height must be multiples of. UserError for other sizes and for two images of one name.
    """
    images: dict[str, Image] = {}
    for row in rows:
        guidance, width, height = of_row(row, s)
        if width % multiple or height % multiple:
            raise UserError(
                f"case {row.case_number}: images of {width}x{height} pixels cannot be drawn by this model, "
                f"whose sizes are multiples of {multiple}"
            )
        for k in range(s.num_samples):
            image = Image(row, k, NAMINGS[s.naming](row, k), width, height, guidance)
            if image.file in images:
                other = images[image.file].row
                raise UserError(
                    f"cases {other.case_number} and {row.case_number} would both be {image.file}: "
                    "leave one out, or name files by case number"
                )
            images[image.file] = image
    return sorted(images.values(), key=lambda i: (i.height, i.width, i.row.case_number, i.k))


def batches(images: Sequence[Image], batch_size: int) -> Iterator[list[Image]]:
    """The images in batches of one size, always the same ones for the same list.

    An image's last bits depend on the shape of the batch it is in. So a run that is continued must form its batches
    from all images, not from those that are left.
    """
    for _, group in groupby(images, key=lambda i: (i.height, i.width)):
        same_size = list(group)
        for start in range(0, len(same_size), batch_size):
            yield same_size[start : start + batch_size]


# ---- what an image was made from -----------------------------------------------------------------------------------


class Stamps:
    """Hashes of what images are made from: model, settings, and the image's own prompt, seed, size and guidance.

    Left out is what must not matter: batch size, device, file names, versions of libraries.
    """

    def __init__(self, s: GenerationSettings, model_sha256: str, identity: Mapping[str, Any], dtype: str):
        self.num_samples, self.noise_device, self.eta = s.num_samples, s.noise_device, s.eta
        self.common = {
            "version": _STAMP_VERSION,
            "model": model_sha256,
            "identity": _contents(identity),
            "dtype": dtype,
            "sampler": s.sampler,
            "steps": s.steps,
            "eta": s.eta,
            "negative_prompt": s.negative_prompt,
            "noise_device": s.noise_device,
        }

    def of(self, image: Image, noise_numel: int) -> str:
        """noise_numel: numbers in the latent of one image."""
        own = {key: value for key, value in image.record().items() if key != "case_number"}
        if self.noise_device != "cpu" or self.eta or noise_numel % 16:
            # Only then does an image's noise depend on how many of its row are drawn after it: the CPU generator fills
            # blocks of 16 one after another.
            own["num_samples"] = self.num_samples
        text = json.dumps(self.common | own, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()


def _contents(value: Any) -> Any:
    """What an identity says about what a model is, besides the weights, which are hashed as they are in the model."""
    if isinstance(value, Mapping):
        return {key: _contents(item) for key, item in value.items() if key not in _PLACES}
    if isinstance(value, (list, tuple)):
        return [_contents(item) for item in value if not _is_in_weights(item)]
    return value


def _is_in_weights(item: Any) -> bool:
    return isinstance(item, Mapping) and item.get("kind") in _IN_WEIGHTS


# ---- files ---------------------------------------------------------------------------------------------------------


def save_image(pixels, path: Path, stamp: str) -> None:
    """Write uint8 pixels [H, W, 3] as a PNG that carries its stamp, whole or not at all."""
    header = PngInfo()
    header.add_text(STAMP, stamp)
    with atomic_path(path) as temporary:
        Picture.fromarray(pixels).save(temporary, pnginfo=header)


def stamp_in(path: Path) -> str | None:
    """The stamp of an image; "" for a file without one or a damaged one, None for no file."""
    try:
        with Picture.open(path, formats=("PNG",)) as picture:
            stamp = picture.info.get(STAMP, "")
            picture.verify()
        return stamp
    except FileNotFoundError:
        return None
    except (OSError, SyntaxError, ValueError):
        return ""


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files of runs that were killed; those of processes still alive stay."""
    for path in folder.glob(".*.tmp.*"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and not _alive(int(match[1])):
            path.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    if pid == os.getpid():
        return False  # a namesake: this process has written nothing yet
    with contextlib.suppress(ProcessLookupError, OverflowError):
        try:
            os.kill(pid, 0)
        except PermissionError:
            pass
        return True
    return False
