"""The loop around `method.loss`: Adam, a bar, checkpoints, and the edit at its end.

    model, identity = base_models.load("toy")
    edit = train(model, identity, Settings.for_family(identity.family, concept="Van Gogh"), "models/my-run")

With the same base, settings and seed, a run that was killed and resumed ends with the bytes of an undisturbed one (on a CPU).
"""

import contextlib
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from erasure import edits
from erasure.errors import UserError
from erasure.runs import print_settings, versions, write_csv
from erasure.training import adam_state, run_folder
from erasure.training.frozen import FrozenWeights
from erasure.training.stopping import deferred_stop
from methods.mymethod import NAME, method
from methods.mymethod.settings import Settings


@dataclass
class Progress:
    """A run between two iterations: trained weights by name, what Adam remembers of them, the losses so far."""

    weights: Mapping[str, Tensor]
    moments: Mapping[str, Mapping[str, Tensor]]
    losses: list[float]


class RunFolder(run_folder.RunFolder):
    """Paths and files of one run. `settings` has its seed once `open` has returned."""

    method = NAME

    def progress_of(self, checkpoint: run_folder.Checkpoint) -> Progress:
        groups = dict(checkpoint.groups)
        return Progress(groups.pop("weights"), losses=groups.pop("losses")[""].tolist(), moments=groups)

    def iterations(self, progress: Progress, settings: Mapping[str, Any]) -> str:
        return f"{len(progress.losses)} of {settings['iterations']} iterations"

    def own_files(self) -> list[Path]:
        return [self.path / "loss.csv"]

    def save(self, progress: Progress) -> None:
        losses = torch.tensor(progress.losses, dtype=torch.float64)
        self.write_checkpoint({"weights": progress.weights, **progress.moments, "losses": {"": losses}})


def train(
    model, identity, settings: Settings, out: Path, resume: bool = False, force: bool = False, progress: bool = True
) -> edits.Edit:
    """The edit of a LatentDiffusion (float32), which itself stays as it is; written to the run's folder `out`.

    resume: go on with a run that was killed. force: discard what is there. A finished run is not repeated. UserError for
    settings that do not fit what is in the folder, and for a loss that is NaN.
    """
    folder = RunFolder(out, settings, identity)
    found = folder.open(resume, force)
    if isinstance(found, edits.Edit):
        print(f"{out} holds this run, finished: nothing to train (--force trains it again)")
        return found
    settings = folder.settings
    if progress:
        print_settings(settings.to_dict() | {"device": model.device})
    folder.write_settings()
    with only(model, method.trained(model)) as weights:
        started = time.monotonic()
        losses = _train(model, weights, folder, found, progress)
        seconds = round(time.monotonic() - started, 3)
        tensors = {name: p.detach().cpu().clone() for name, p in weights.selected.items()}
    edit = edits.Edit(NAME, [settings.concept], settings.to_dict(), folder.base, tensors, versions=versions())
    write_csv(folder.path / "loss.csv", [("iteration", "loss"), *enumerate(losses, 1)])
    folder.write_settings(seconds=seconds)
    edits.save(edit, folder.edit_file)
    folder.checkpoint_file.unlink(missing_ok=True)
    return edit


@contextlib.contextmanager
def only(model: nn.Module, selected: Mapping[str, nn.Parameter]):
    """`FrozenWeights` of a model of which nothing but `selected` is trained; after the block it is what it was."""
    required = {p: p.requires_grad for p in model.parameters()}
    model.requires_grad_(False)
    weights = FrozenWeights(model.apply_model, dict(selected))
    for p in selected.values():
        p.requires_grad_(True)
    try:
        yield weights
    finally:
        weights.restore()
        for p, was in required.items():
            p.grad = None
            p.requires_grad_(was)


def _train(model, weights: FrozenWeights, folder: RunFolder, found: Progress | None, progress: bool) -> list[float]:
    """All iterations that are left; the losses of all of them."""
    settings, losses = folder.settings, []
    optimizer = torch.optim.Adam(weights.selected.values(), lr=settings.lr)
    if found is not None:
        losses = _go_on(weights, optimizer, found)
    with torch.no_grad():
        states = {text: model.get_learned_conditioning([text]) for text in method.texts(settings)}
    with (
        deferred_stop() as stop,
        tqdm(total=settings.iterations, initial=len(losses), desc=NAME, disable=not progress) as bar,
    ):
        for iteration in range(len(losses), settings.iterations):
            losses.append(_step(weights, optimizer, states, settings, iteration))
            bar.set_postfix_str(f"loss {losses[-1]:.4f}", refresh=False)
            bar.update()
            done = iteration + 1
            due = settings.checkpoint_every and done % settings.checkpoint_every == 0 and done < settings.iterations
            if stop.is_set() or due:
                folder.save(Progress(weights.selected, adam_state.moments(optimizer, weights.selected), losses))
            if stop.is_set():
                raise KeyboardInterrupt
    return losses


def _step(weights: FrozenWeights, optimizer, states: Mapping[str, Tensor], settings: Settings, iteration: int) -> float:
    optimizer.zero_grad(set_to_none=True)
    loss = method.loss(weights, states, method.draw(settings, iteration), settings)
    value = loss.item()
    if not math.isfinite(value):
        raise UserError(f"the loss is {value} in iteration {iteration + 1}: lower --lr (now {settings.lr:g})")
    loss.backward()
    optimizer.step()
    return value


@torch.no_grad()
def _go_on(weights: FrozenWeights, optimizer, found: Progress) -> list[float]:
    for name, parameter in weights.selected.items():
        parameter.copy_(found.weights[name])
    adam_state.restore(optimizer, weights.selected, found.moments)
    print(f"resuming after iteration {len(found.losses)}")
    return list(found.losses)
