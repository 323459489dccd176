"""A run of the generator: which images are missing, draw them, say what they were made from.

An image depends on its row, its number within the row, the settings and the model, and on nothing else: the noise of a
row comes from a generator of its own, and prompts are encoded one at a time. Which batch it was drawn in can only show in
its last bits. What is there and was made from the same things is kept; a run that was killed goes on to the same bytes.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from erasure import runs
from erasure.errors import UserError
from erasure.generation.distributed import ALONE, Ranks
from erasure.generation.drawing import Painter, resolved, size_multiple, weights_dtype
from erasure.generation.plan import Image, Stamps, batches, images_of, remove_leftovers, save_image, stamp_in
from erasure.generation.presets import GenerationSettings
from erasure.prompts import Row

MANIFEST = "manifest.json"
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n:.1f}/{total_fmt} images [{elapsed}<{remaining}, {rate_noinv_fmt}]"


@dataclass(frozen=True)
class Summary:
    """What a run did."""

    folder: str
    images: int  # that the rows ask for
    made: int
    kept: int  # there already, made from the same things
    remade: int  # of those made: there before, but made from other things, or damaged
    seconds: float

    @property
    def images_per_second(self) -> float:
        return self.made / self.seconds if self.made else 0.0

    def __str__(self) -> str:
        again = f" ({self.remade} anew: they were of other prompts, seeds, settings or weights)" if self.remade else ""
        rate = f", in {self.seconds:.1f} s ({self.images_per_second:.2f} images/s)" if self.made else ""
        return f"{self.folder}: {self.made} images made{again}, {self.kept} kept{rate}"


def generate(
    model,
    rows: Iterable[Row],
    folder: str | os.PathLike,
    settings: GenerationSettings,
    identity: Mapping[str, Any],
    progress: bool = True,
    overwrite: bool = False,
    encode: Callable[[str], torch.Tensor] | None = None,
    ranks: Ranks = ALONE,
) -> Summary:
    """Draw the images of `rows` that `folder` does not hold yet, and write manifest.json there.

    model: LatentDiffusion in evaluation mode, with whatever edits applied. identity: what it is, in words and hashes,
    e.g. {"base": BaseIdentity.to_dict(), "edits": [...]}; the weights themselves are hashed as well. overwrite: draw
    all images anew. encode: prompt -> states [L, D], in place of the text encoder for the prompts of rows, not for the
    unconditional one; whatever it depends on must be named in `identity`, by which images are told apart, and rows must
    not give token ids. ranks: the processes that share the drawing, each of which calls this; the summary is of what
    they do together. UserError for settings, sizes or rows that cannot be drawn, and for a model that yields NaN.
    """
    folder = Path(folder)
    s = resolved(settings, model)
    images = images_of(rows, s, size_multiple(model))
    if not images:
        raise UserError("no rows to draw images of")
    painter = Painter(model, s, encode)
    for image in images:
        painter.check(image.row)
    facts = {
        "settings": asdict(s),
        "dtype": str(weights_dtype(model)).removeprefix("torch."),
        "model": dict(identity),
        "model_sha256": runs.tensors_sha256(model.state_dict()),
    }
    stamper = Stamps(s, facts["model_sha256"], identity, facts["dtype"])
    stamps = {i.file: stamper.of(i, torch.Size(painter.latent_shape(i)).numel()) for i in images}

    there = ranks.agree(lambda: _look_into(folder, stamps))
    todo = {file: stamp for file, stamp in stamps.items() if overwrite or there[file] != stamp}
    missing = [batch for batch in batches(images, s.batch_size) if any(i.file in todo for i in batch)]
    if ranks.first:
        _write_manifest(folder, facts, [i for i in images if i.file not in todo], stamps)
    started = time.monotonic()
    title = "images" if ranks.count == 1 else f"images of the first of {ranks.count} processes"
    _draw(painter, ranks.share(missing), todo, folder, title if progress and ranks.first else None)
    ranks.wait()
    if ranks.first:
        _write_manifest(folder, facts, images, stamps)
    remade = sum(there[file] is not None for file in todo)
    return Summary(str(folder), len(images), len(todo), len(images) - len(todo), remade, time.monotonic() - started)


def _look_into(folder: Path, files: Iterable[str]) -> dict[str, str | None]:
    """The stamps of `files` in the folder, which is made, and cleared of what killed runs left."""
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    return {file: stamp_in(folder / file) for file in files}


def _draw(
    painter: Painter, parts: Sequence[Sequence[Image]], todo: Mapping[str, str], folder: Path, title: str | None
) -> None:
    """Draw whole batches, and save those of their images that are in `todo` with their stamps. title: of a bar, if any."""
    counts = [sum(image.file in todo for image in batch) for batch in parts]
    with _progress_bar(painter.model, painter.s, title, sum(counts)) as advance:
        for batch, count in zip(parts, counts, strict=True):
            with advance(count):
                for image, pixels in zip(batch, painter.draw(batch), strict=True):
                    if image.file in todo:
                        save_image(pixels, folder / image.file, todo[image.file])


def _write_manifest(folder: Path, facts: dict, images: Sequence[Image], stamps: Mapping[str, str]) -> None:
    """What the folder's images were made from. Images of other rows stay listed if all else is as it was."""
    path = folder / MANIFEST
    records = {i.file: i.record() | {"made_from": stamps[i.file]} for i in images}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        old = runs.read_json(path)
        if _origin(old) == _origin(facts):
            own = stamps.keys()
            earlier = {f: r for f, r in old["images"].items() if f not in own and (folder / f).is_file()}
            records = earlier | records
    order = sorted(records, key=lambda f: (records[f]["case_number"], records[f]["k"]))
    runs.write_json(path, facts | {"versions": runs.versions(), "images": {file: records[file] for file in order}})


def _origin(facts: Mapping[str, Any]) -> tuple:
    return facts["settings"] | {"batch_size": None}, facts["dtype"], facts["model_sha256"]


@contextlib.contextmanager
def _progress_bar(model, s: GenerationSettings, title: str | None, total: int) -> Iterator:
    """A bar in images that moves with every call of the UNet; yields a context manager for a batch of n images.

    title: None for no bar.
    """
    share = 0.0

    with tqdm(total=total, desc=title, unit=" images", bar_format=_BAR, disable=not (title and total)) as bar:

        @contextlib.contextmanager
        def advance(count: int):
            nonlocal share
            goal, share = bar.n + count, count / (s.steps + 1)
            yield
            bar.update(goal - bar.n)

        handle = model.model.register_forward_hook(lambda *_: bar.update(share) and None)
        try:
            yield advance
        finally:
            handle.remove()
