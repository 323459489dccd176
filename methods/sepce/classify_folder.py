"""A classifier's answers on folders of pictures, class by class: what artist-cls-test.py and cate-cls-test.py report."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

from erasure.errors import UserError
from erasure.metrics.image_classes import top_classes
from erasure.metrics.image_folders import class_folders, images_by_case
from erasure.metrics.intervals import LEVEL, wilson
from erasure.metrics.network_inputs import Preprocess, read_image
from erasure.runs import versions, write_csv, write_json

OTHER = -1  # an answer that is none of the classes


@dataclass(frozen=True)
class Example:
    """A picture and the number of the folder it lies in."""

    path: Path
    label: int


@dataclass(frozen=True)
class Answer:
    """What the classifier says of a picture: a class, or OTHER."""

    example: Example
    answer: int
    probability: float


class Pictures(Dataset):
    """(picture [3, h, w], label) of examples."""

    def __init__(self, examples: Sequence[Example], preprocess: Preprocess):
        self.examples, self.preprocess = examples, preprocess

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, number: int):
        example = self.examples[number]
        return self.preprocess(read_image(example.path)), example.label


def examples_in(root: Path, classes: int, every: bool = False) -> list[Example]:
    """The pictures of the folders {root}/0, /1, ..., in numeric order. A folder's name is its class.

    UserError for no pictures at all and for a folder whose number is no class; `every`: also for a class without pictures.
    """
    folders = class_folders(root)
    if beyond := [number for number in folders if number >= classes]:
        raise UserError(f"{folders[beyond[0]]}: there are {classes} classes, 0 to {classes - 1}")
    found = {n: [p for pictures in images_by_case(folder).values() for p in pictures] for n, folder in folders.items()}
    if every and (without := [number for number in range(classes) if not found.get(number)]):
        raise UserError(
            f"no pictures of class {without[0]}: {root / str(without[0])} must hold {{case_number}}_{{k}}.png"
        )
    if not any(found.values()):
        raise UserError(f"{root} holds no pictures in folders 0 to {classes - 1}")
    return [Example(path, number) for number, pictures in found.items() for path in pictures]


def classify(
    examples: Sequence[Example],
    network: Callable[[torch.Tensor], torch.Tensor],
    preprocess: Preprocess,
    class_of_output: Callable[[int], int],
    batch_size: int = 32,
    device: str = "cpu",
    progress: bool = True,
) -> list[Answer]:
    """The answer on every picture. network: pictures [B, 3, h, w] -> logits [B, outputs], in evaluation mode."""
    files = [example.path for example in examples]
    found = top_classes(files, network, preprocess, 1, batch_size, device, progress)
    return [Answer(example, class_of_output(i), p) for example, ((i, p),) in zip(examples, found, strict=True)]


def confusion(answers: Sequence[Answer], classes: int) -> np.ndarray:
    """[classes, classes + 1]: pictures by folder and answer, in the last column answers that are no class."""
    matrix = np.zeros((classes, classes + 1), dtype=np.int64)
    for one in answers:
        matrix[one.example.label, one.answer if one.answer != OTHER else classes] += 1
    return matrix


def accuracies(matrix: np.ndarray) -> list[float]:
    """Share of right answers of every class; NaN for one without pictures."""
    return [matrix[i, i] / total if (total := matrix[i].sum()) else math.nan for i in range(len(matrix))]


# ---- tables and files ----------------------------------------------------------------------------------------------


def table(names: Sequence[str], matrix: np.ndarray) -> str:
    """Accuracy of every class with its interval, then who is taken for whom."""
    width = max(map(len, names))
    lines = [f"{'class':>5}  {'':<{width}}  {'images':>6}  accuracy"]
    for number, name in enumerate(names):
        total = int(matrix[number].sum())
        share = wilson(int(matrix[number, number]), total).percent() if total else "-"
        lines.append(f"{number:>5}  {name:<{width}}  {total:>6}  {share}")
    columns = [
        *map(str, range(len(names))),
        *(["other"] if matrix.shape[1] > len(names) and matrix[:, -1].any() else []),
    ]
    lines += ["", "answers (rows: classes, columns: what the classifier says)"]
    lines.append(" " * 6 + "".join(f"{column:>6}" for column in columns))
    for number in range(len(names)):
        lines.append(f"{number:>5} " + "".join(f"{matrix[number, column]:>6}" for column in range(len(columns))))
    return "\n".join(lines)


def write_results(stem: Path, names: Sequence[str], answers: Sequence[Answer], definition: dict) -> list[Path]:
    """{stem}.csv (a row a class), {stem}_confusion.csv, {stem}_per_image.csv and {stem}.summary.json."""
    matrix = confusion(answers, len(names))
    per_class = [["class", "name", "images", "right", "accuracy", "low", "high"]]
    for number, name in enumerate(names):
        total, right = int(matrix[number].sum()), int(matrix[number, number])
        share = wilson(right, total) if total else None
        cells = [repr(value) for value in (share.value, share.low, share.high)] if share else ["", "", ""]
        per_class.append([number, name, total, right, *cells])
    answered = [["class", *range(len(names)), "other"], *([i, *row.tolist()] for i, row in enumerate(matrix))]
    images = [["file", "class", "answer", "right", "probability"]]
    images += [
        [f"{a.example.label}/{a.example.path.name}", a.example.label, "other" if a.answer == OTHER else a.answer,
         int(a.answer == a.example.label), repr(a.probability)] for a in answers
    ]  # fmt: skip
    files = [stem.with_name(stem.name + suffix) for suffix in (".csv", "_confusion.csv", "_per_image.csv")]
    for file, rows in zip(files, (per_class, answered, images), strict=True):
        write_csv(file, rows)
    summary_file = stem.with_name(stem.name + ".summary.json")
    write_json(summary_file, summary(names, matrix, definition))
    return [*files, summary_file]


def summary(names: Sequence[str], matrix: np.ndarray, definition: dict) -> dict:
    """Accuracy of all pictures and of every class, with what was measured how; ready for JSON."""
    right = int(np.trace(matrix[:, : len(matrix)]))
    per_group = {
        str(i): {"name": name} | (wilson(int(matrix[i, i]), int(matrix[i].sum())).as_dict() if matrix[i].sum() else {})
        for i, name in enumerate(names)
    }
    return {
        "metric": "share of pictures that the classifier puts into the class of their folder",
        "value": wilson(right, int(matrix.sum())).as_dict(),
        "interval": f"Wilson, {100 * LEVEL:.0f} %",
        "n_images": int(matrix.sum()),
        "per_group": per_group,
        "definition": definition,
        "versions": versions(),
    }
