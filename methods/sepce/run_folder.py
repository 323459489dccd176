"""The folder of a run of this family: the edit, losses.csv, settings.json, and on demand the pair of published files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from erasure import edits
from erasure.runs import read_json, write_csv
from erasure.training import run_folder

Tensors = dict[str, Tensor]


@dataclass
class Progress:
    """A run between two steps. Adam's tensors are missing where a trained tensor has had no gradient yet."""

    trained: Tensors = field(default_factory=dict)
    grad: Tensors = field(default_factory=dict)  # the sum so far; none where every step starts anew
    exp_avg: Tensors = field(default_factory=dict)
    exp_avg_sq: Tensors = field(default_factory=dict)
    step: Tensors = field(default_factory=dict)
    objective: Tensors = field(default_factory=dict)  # its own state
    numbers: dict[str, Any] = field(default_factory=dict)  # of its own state
    rows: list[dict[str, float]] = field(default_factory=list)  # the numbers of every step
    finished: bool = False
    images: list[str] = field(default_factory=list)  # digests, one a concept


_IN_HEADER = ("numbers", "rows", "finished", "images")


class RunFolder(run_folder.RunFolder):
    """Paths and files of one run. `settings` has its seed once `open` has returned."""

    def __init__(self, path: Path, settings, identity):
        super().__init__(path, settings, identity)
        self.method = settings.method.lower()

    def progress_of(self, checkpoint: run_folder.Checkpoint) -> Progress:
        return Progress(**checkpoint.groups, **{name: checkpoint.header[name] for name in _IN_HEADER})

    def iterations(self, progress: Progress, settings: Mapping[str, Any]) -> str:
        return f"{len(progress.rows)} steps"

    def own_files(self) -> list[Path]:
        return [self.path / "losses.csv", *self.weights_files("pt"), *self.weights_files("safetensors")]

    def save_checkpoint(self, progress: Progress) -> None:
        groups = {name: value for name, value in vars(progress).items() if name not in _IN_HEADER}
        self.write_checkpoint(groups, **{name: getattr(progress, name) for name in _IN_HEADER})
        self.write_losses(progress.rows)

    def write_losses(self, rows: list[dict[str, float]]) -> None:
        """losses.csv: a row a step, a column for every number that any step had, the loss first and the rest by name."""
        names = sorted({name for row in rows for name in row}, key=lambda name: (name != "loss", name))
        lines = ([i, *(row.get(name, "") for name in names)] for i, row in enumerate(rows, start=1))
        write_csv(self.path / "losses.csv", [["step", *names], *lines])

    def how_it_ended(self) -> str:
        """A finished run in a sentence."""
        facts = read_json(self.path / "settings.json")
        why = "the images ran out" if facts["ended_by"] == "images" else "by its rule"
        more = " (--cycle_images goes round, --num_images draws more)" if facts["ended_by"] == "images" else ""
        return f"ended after {facts['steps']} steps, in {facts['seconds']:.0f} s: {why}{more}"

    def weights_files(self, suffix: str) -> tuple[Path, Path]:
        return weights_files(self.path, suffix)

    def publish(self, model, identity, edit: edits.Edit) -> None:
        """Write those of the published files that are wanted and not there yet; the model must be the base."""
        if self.settings.save_format != "edit":
            publish(model, identity, edit, self.weights_files(self.settings.save_format))


def weights_files(folder: Path, suffix: str) -> tuple[Path, Path]:
    """The published files of a run's folder: the UNet under diffusers' names, and the whole model under CompVis'.

    Published: under one name, so that the first was written over the second.
    """
    return folder / f"{folder.name}.{suffix}", folder / f"compvis-{folder.name}.{suffix}"


def publish(model, identity, edit: edits.Edit, files: tuple[Path, Path]) -> None:
    """Write those of two files (UNet for diffusers, whole model) that are not there yet: the base with an edit in it."""
    if all(file.is_file() for file in files):
        return
    with edits.apply(model, edit, identity):
        for write, file in zip((edits.export_diffusers, edits.export_compvis), files, strict=True):
            if not file.is_file():
                write(model, file)
