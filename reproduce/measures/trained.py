"""Numbers of a model that need no pictures: how long it took, which weights are others, what it measured of itself. Imports no torch."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from erasure import runs
from erasure.errors import UserError
from reproduce.measures.asked import Asked, left
from reproduce.models import RECORD
from reproduce.results import Measured


def _trainings(asked: Asked) -> list[Path]:
    found = list(dict.fromkeys(folder for shown, _ in asked.taken for folder in shown.trainings))
    if not found:
        raise UserError("a model that was not trained has no such number")
    return found


def seconds(asked: Asked) -> Measured:
    """Of the methods' whole commands, by the records of their steps: some methods state their own, but not all."""
    folders = _trainings(asked)
    records = [next((at / RECORD for at in (f, *f.parents) if (at / RECORD).is_file()), None) for f in folders]
    if None in records:
        raise UserError(f"{folders[records.index(None)]}: no {RECORD}, which states the duration, is above it")
    found = sum(runs.read_json(record)["seconds"] for record in dict.fromkeys(records))
    return Measured(found, definition="of the whole command, loading included", source=str(records[0]))


def modified(asked: Asked) -> Measured:
    """Share of the weights of the base model's UNet that are others after the edits."""
    from erasure.checkpoint_files import shapes
    from erasure.edits.applying import UNET
    from erasure.edits.context_maps import PROJECTIONS
    from erasure.edits.files import read_header

    changed: dict[str, int] = {}
    total, path = 0, Path()
    for folder in _trainings(asked):
        path = left(folder, "edit.safetensors", asked.measure)
        header = read_header(path)
        own = shapes(runs.find(header["base"]["path"]))
        unet = {name.removeprefix(UNET): math.prod(shape) for name, shape in own.items() if name.startswith(UNET)}
        named = shapes(path) if header["kind"] == "tensors" else [name for name in unet if name.endswith(PROJECTIONS)]
        changed |= {name: unet[name] for name in named}
        total = sum(unet.values())
    words = "weights of the tensors that the edit changes / weights of the UNet"
    return Measured(sum(changed.values()) / total, definition=words, source=str(path))


def attribute_deviation(asked: Asked) -> Measured:
    """UCE's deviation, |share - 1/J| J of the first of J attributes, mean over texts, after the last edit, or `before` the first."""
    path = left(_trainings(asked)[0], "ratios.json", asked.measure)
    rounds = runs.read_json(path)["ratios"]
    words = "mean over texts of |share - 1/J| J of the first of J attributes, by the embedded model's judge"
    chosen = rounds[0 if asked.cell.get("before") else -1]
    return Measured(_deviation(chosen), n=len(chosen), definition=words, source=str(path))


def _deviation(texts: Iterable[Sequence[float]]) -> float:
    found = [abs(shares[0] * len(shares) - 1) for shares in texts]
    return sum(found) / len(found)
