"""The folder of an ESD run: its progress as a checkpoint, the published files, its losses."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure import edits
from erasure.runs import atomic_path, versions, write_text
from erasure.training import run_folder


@dataclass
class Progress:
    """A run between two iterations: trained weights and Adam's two moments, by parameter name, and the losses so far."""

    weights: dict[str, Tensor]
    exp_avg: dict[str, Tensor]
    exp_avg_sq: dict[str, Tensor]
    losses: list[float]

    @property
    def iteration(self) -> int:
        return len(self.losses)


class RunFolder(run_folder.RunFolder):
    """Paths and files of one run. `settings` has its seed once `open` has returned."""

    method = "esd"

    def progress_of(self, checkpoint: run_folder.Checkpoint) -> Progress:
        groups = dict(checkpoint.groups)
        return Progress(losses=groups.pop("losses")[""].tolist(), **groups)

    def iterations(self, progress: Progress, settings: Mapping[str, Any]) -> str:
        return f"{progress.iteration} of {settings['iterations']} iterations"

    def own_files(self) -> list[Path]:
        weights = [f for f in self.path.glob("*") if f.name.startswith(self.settings.weights_names)]
        return [self.path / "loss.txt", self.path / "loss.png", *weights]

    def save_checkpoint(self, progress: Progress) -> None:
        groups = {"weights": progress.weights, "exp_avg": progress.exp_avg, "exp_avg_sq": progress.exp_avg_sq}
        losses = torch.tensor(progress.losses, dtype=torch.float64)
        self.write_checkpoint(groups | {"losses": {"": losses}})
        self.write_losses(progress.losses)

    # ---- results ----------------------------------------------------------------------------------------------------

    def edit_of(self, tensors: dict[str, Tensor]) -> edits.Edit:
        return edits.Edit(
            "esd", self.settings.concepts, self.settings.to_dict(), self.base, tensors, versions=versions()
        )

    def weights_files(self) -> tuple[Path, Path] | None:
        """The published files (whole model, UNet for diffusers); None where only the edit is wanted."""
        if self.settings.save_format == "edit":
            return None
        whole, unet = (self.path / f"{name}.{self.settings.save_format}" for name in self.settings.weights_names)
        return whole, unet

    def write_epoch(self, model, tensors: dict[str, Tensor], iteration: int) -> None:
        """An intermediate result, named by the number of finished iterations (published: by two fewer)."""
        if files := self.weights_files():
            edits.export_compvis(model, files[0].with_name(f"{files[0].stem}-epoch_{iteration}{files[0].suffix}"))
        else:
            edits.save(self.edit_of(tensors), self.path / f"edit-epoch_{iteration}.safetensors")

    def write_weights(self, model) -> None:
        """The published files that are not there yet, from the model with the edit in it."""
        writers = (edits.export_compvis, edits.export_diffusers)
        for write, file in zip(writers, self.weights_files() or (), strict=False):
            if not file.is_file():
                write(model, file)

    def write_losses(self, losses: list[float]) -> None:
        """One loss a line (published: without separators)."""
        write_text(self.path / "loss.txt", "".join(f"{loss!r}\n" for loss in losses))

    def plot_losses(self, losses: list[float], window: int = 3) -> None:
        """loss.png: the moving average, in a figure of its own (published: every curve so far, one above the other)."""
        from matplotlib.figure import Figure

        window = min(window, len(losses))
        averages = torch.tensor(losses, dtype=torch.float64).unfold(0, window, 1).mean(dim=1).tolist()
        figure = Figure()
        axes = figure.subplots()
        axes.plot(averages, label=f"{self.settings.prompt.replace(' ', '')[:60]}_loss".replace("$", r"\$"))
        axes.set(title="Average loss in trainings", xlabel="Data point", ylabel="Loss value")
        axes.legend(loc="upper left")
        with atomic_path(self.path / "loss.png") as temporary:
            figure.savefig(temporary)
