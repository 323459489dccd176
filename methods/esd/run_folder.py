"""The folder of an ESD run: what a finished run holds, and what a killed one goes on from.

The edit is written before the published files, which can be made from it at any time: where it is, training is done.
Until then ``checkpoint.safetensors`` holds all that the next iteration depends on.
"""

import dataclasses
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from erasure import edits
from erasure.errors import UserError
from erasure.runs import atomic_path, save_safetensors, versions, write_json, write_text
from methods.esd.esd import diffusers_name
from methods.esd.settings import EsdSettings, differences


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


class RunFolder:
    """Paths and files of one run. `settings` has its seed once `open` has returned."""

    def __init__(self, path: Path, settings: EsdSettings, identity):
        self.path, self.settings, self.base = Path(path), settings, identity.to_dict()
        self.edit_file = self.path / "edit.safetensors"
        self.checkpoint_file = self.path / "checkpoint.safetensors"

    def open(self, resume: bool = False, force: bool = False) -> "Progress | edits.Edit | None":
        """What is there already: the edit of a finished run, the progress of a killed one, or nothing.

        `force` discards both. UserError for a run with other settings or another base, for a killed one without `resume`
        (its work would be lost), and for a checkpoint that cannot be read.
        """
        if force:
            self._discard()
        if self.edit_file.is_file():
            edit = edits.read(self.edit_file)
            self._agree(edit.settings, edit.base, "finished run")
            self.checkpoint_file.unlink(missing_ok=True)
            return edit
        if self.checkpoint_file.is_file():
            run, progress = self._read_checkpoint()
            if not resume:
                raise UserError(
                    f"{self.path} holds a run that stopped after {progress.iteration} of {run['settings']['iterations']} "
                    "iterations: --resume goes on, --force starts again"
                )
            self._agree(run["settings"], run["base"], "started run")
            return progress
        if self.settings.seed is None:
            self.settings = dataclasses.replace(self.settings, seed=secrets.randbits(31))
        return None

    def _agree(self, settings: dict[str, Any], base: dict[str, Any], what: str) -> None:
        """Refuse a run that is not the one asked for; take its seed if none was asked for."""
        found = differences(self.settings, self.base["sha256"], settings, base.get("sha256", ""))
        if found:
            raise UserError(
                f"{self.path} holds a {what} with other settings ({'; '.join(found)}): --force replaces it, "
                "--save_path puts this one elsewhere"
            )
        self.settings = dataclasses.replace(self.settings, seed=settings["seed"])

    def _discard(self) -> None:
        """Remove the files of an earlier run, and nothing else."""
        name = self.settings.run_name
        ours = ["edit*.safetensors", "checkpoint.safetensors", "loss.txt", "loss.png", "settings.json"]
        files = [file for pattern in ours for file in self.path.glob(pattern)]
        files += [f for f in self.path.glob("*") if f.name.startswith((name, diffusers_name(name)))]
        for file in filter(Path.is_file, files):
            file.unlink(missing_ok=True)

    # ---- checkpoints ------------------------------------------------------------------------------------------------

    def save_checkpoint(self, progress: Progress) -> None:
        groups = {"weights": progress.weights, "exp_avg": progress.exp_avg, "exp_avg_sq": progress.exp_avg_sq}
        tensors = {f"{group}.{name}": t for group, values in groups.items() for name, t in values.items()}
        tensors["losses"] = torch.tensor(progress.losses, dtype=torch.float64)
        run = {"settings": self.settings.to_dict(), "base": self.base}
        save_safetensors(self.checkpoint_file, tensors, {"format": "pt", "esd_run": run})
        self.write_losses(progress.losses)

    def _read_checkpoint(self) -> tuple[dict[str, Any], Progress]:
        from safetensors import SafetensorError, safe_open

        groups: dict[str, dict[str, Tensor]] = {"weights": {}, "exp_avg": {}, "exp_avg_sq": {}}
        try:
            with safe_open(self.checkpoint_file, framework="pt") as file:
                run = json.loads(file.metadata()["esd_run"])
                losses = file.get_tensor("losses").tolist()
                for key in set(file.keys()) - {"losses"}:
                    group, _, name = key.partition(".")
                    groups[group][name] = file.get_tensor(key)
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{self.checkpoint_file}: not the checkpoint of a run ({error}); --force starts again"
            ) from None
        return run, Progress(**groups, losses=losses)

    # ---- results ----------------------------------------------------------------------------------------------------

    def edit_of(self, tensors: dict[str, Tensor]) -> edits.Edit:
        return edits.Edit(
            "esd", self.settings.concepts, self.settings.to_dict(), self.base, tensors, versions=versions()
        )

    def weights_files(self) -> tuple[Path, Path] | None:
        """The published files (whole model, UNet for diffusers); None where only the edit is wanted."""
        if self.settings.save_format == "edit":
            return None
        name, suffix = self.settings.run_name, "." + self.settings.save_format
        return self.path / (name + suffix), self.path / (diffusers_name(name) + suffix)

    def write_epoch(self, model, tensors: dict[str, Tensor], iteration: int) -> None:
        """An intermediate result, named by the number of finished iterations (published: by two fewer)."""
        if files := self.weights_files():
            edits.export_compvis(
                model, files[0].with_name(f"{self.settings.run_name}-epoch_{iteration}{files[0].suffix}")
            )
        else:
            edits.save(self.edit_of(tensors), self.path / f"edit-epoch_{iteration}.safetensors")

    def write_weights(self, model) -> None:
        """The published files that are not there yet, from the model with the edit in it."""
        writers = (edits.export_compvis, edits.export_diffusers)
        for write, file in zip(writers, self.weights_files() or (), strict=False):
            if not file.is_file():
                write(model, file)

    def write_settings(self, **facts: Any) -> None:
        write_json(
            self.path / "settings.json",
            {"method": "esd", "settings": self.settings.to_dict(), "base": self.base, "versions": versions()} | facts,
        )

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
