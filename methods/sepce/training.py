"""The loop that trains an objective of this family (`objectives.Objective`), and the random choices of its steps.

    folder = RunFolder(Path("models") / settings.run_name, settings, identity)
    found = folder.open(resume, force)                      # an Edit: finished; a Progress: killed; None: new
    images = training_images(model, identity, folder.settings, "data")
    objective = FMN(model, text_encoder(model), "Van Gogh", iter_break=10)
    edit = train(objective, images, folder, found)          # `command.main` does all this

or, step by step, with draws of one's own (tests of the published runs):

    with objective:
        trainer = Trainer(objective, lr=1e-5)               # accumulate_grad=False clears gradients
        while not trainer.finished:
            numbers = trainer.update(Step(t, [z0], [noise]))
        edit = objective.edit(settings, base)

Published, and the default here: gradients are never cleared, so that every step follows the sum of all gradients so far. A
run that was killed and resumed ends in the bytes of an undisturbed one (on a CPU; a GPU's backward pass may round differently).
"""

import functools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from erasure.edits import Edit, save
from erasure.errors import UserError
from erasure.training import adam_state
from erasure.training.draws import draw_timestep, iteration_generators
from erasure.training.stopping import deferred_stop
from methods.sepce.images import ConceptImages, digest_of
from methods.sepce.run_folder import Progress, RunFolder
from methods.sepce.settings import SepceSettings


@dataclass(frozen=True)
class Step:
    """The random choices of one step: a time for all concepts, and of each a latent and the noise that is added to it.

    x_t = model.q_sample(latent, t, noise)
    """

    t: Tensor  # [1] int64
    latents: list[Tensor]  # z0 [1, C, h, w] of each concept
    noises: list[Tensor]  # [1, C, h, w]


def draw_step(
    images: Sequence[ConceptImages], seed: int, iteration: int, ddim_steps: int = 50, device: torch.device | str = "cpu"
) -> Step:
    """Step `iteration` (from 0 on) of a run: image number `iteration` of every concept, going round where images run out.

    All is drawn on the CPU, from the seed and the number of the step alone: the time, the latents, their noises.
    """
    _, generator = iteration_generators("sepce", seed, iteration)
    _, t = draw_timestep(ddim_steps, generator)
    latents = [concept.latent(iteration % len(concept), generator) for concept in images]
    noises = [torch.randn(latent.shape, generator=generator) for latent in latents]
    return Step(torch.tensor([t], device=device), [z.to(device) for z in latents], [n.to(device) for n in noises])


def text_encoder(model):
    """text -> hidden states [1, L, D] of a LatentDiffusion; every text is encoded once, alone."""

    @functools.cache
    @torch.no_grad()
    def encode(text: str) -> Tensor:
        return model.get_learned_conditioning([text])

    return encode


class Trainer:
    """Adam on the tensors of an objective whose context has been entered."""

    def __init__(self, objective, lr: float, accumulate_grad: bool = True):
        self.objective, self.lr, self.accumulate_grad = objective, lr, accumulate_grad
        # fused: the same formula in one pass, without temporaries as large as the trained tensors
        self.optimizer = torch.optim.Adam(objective.trained.values(), lr=lr, betas=(0.9, 0.999), eps=1e-8, fused=True)
        self.rows: list[dict[str, float]] = []
        self.finished = False

    @property
    def steps(self) -> int:
        return len(self.rows)

    def update(self, step: Step) -> dict[str, float]:
        """One step of Adam; returns its numbers. UserError if the loss is NaN or infinite: nothing is changed then."""
        if not self.accumulate_grad:
            self.optimizer.zero_grad(set_to_none=True)
        terms = self.objective.terms(step)
        loss = terms.loss.item()
        if not math.isfinite(loss):
            raise UserError(
                f"the loss is {loss} in step {self.steps + 1}: training diverged; lower --lr (now {self.lr:g})"
            )
        terms.loss.backward()
        self.optimizer.step()
        self.rows.append(terms.numbers)
        self.finished = bool(self.objective.finished(self.steps - 1, terms.numbers))
        return terms.numbers

    # ---- state ----------------------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """All that the next step depends on; tensors share memory with those in training."""
        trained = self.objective.trained
        moments = adam_state.moments(self.optimizer, trained)
        grad = {name: p.grad for name, p in trained.items() if p.grad is not None and self.accumulate_grad}
        own, numbers = self.objective.state()
        values = {name: p.detach() for name, p in trained.items()}
        return Progress(values, grad, **moments, objective=own, numbers=numbers, rows=self.rows, finished=self.finished)

    @torch.no_grad()
    def go_on_from(self, progress: Progress) -> None:
        trained = self.objective.trained
        # first: it refuses what another objective has left
        self.objective.load({name: tensor.clone() for name, tensor in progress.objective.items()}, progress.numbers)
        for name, parameter in trained.items():
            parameter.copy_(progress.trained[name])
            grad = progress.grad.get(name)
            parameter.grad = None if grad is None else adam_state.like(parameter, grad)
        saved = {key: getattr(progress, key) for key in adam_state.MOMENTS}
        adam_state.restore(self.optimizer, trained, saved)
        self.rows, self.finished = list(progress.rows), progress.finished


# ---- a run ---------------------------------------------------------------------------------------------------------


def train(
    objective, images: Sequence[ConceptImages], folder: RunFolder, found: Progress | None = None, progress: bool = True
) -> Edit:
    """Train an objective until it says so or the images run out; the edit, losses and settings go into the folder.

    folder: opened, so that its settings have their seed; found: what it held. The model is the base again afterwards.
    UserError for a loss that is NaN, and for images that are not those of the run that is resumed.
    """
    with objective:
        trainer = Trainer(objective, folder.settings.lr, not folder.settings.zero_grad)
        if found is not None:
            _check_images(images, found, folder)
            trainer.go_on_from(found)
        facts = {"device": str(objective.device), "images": {str(c.folder): len(c) for c in images}}
        folder.write_settings(**facts)
        seconds = _loop(trainer, images, folder, progress)
        edit = objective.edit(folder.settings.to_dict(), folder.base)
    folder.write_losses(trainer.rows)
    ended = "rule" if trainer.finished else "images"
    folder.write_settings(**facts, steps=trainer.steps, ended_by=ended, seconds=seconds)
    save(edit, folder.edit_file)
    folder.checkpoint_file.unlink(missing_ok=True)
    return edit


def _check_images(images: Sequence[ConceptImages], found: Progress, folder: RunFolder) -> None:
    for concept, earlier, now in zip(images, found.images, digest_of(images), strict=True):
        if earlier != now:
            raise UserError(
                f"{concept.folder} does not hold the images that {folder.path} began with: --force starts again"
            )


def last_step(images: Sequence[ConceptImages], settings: SepceSettings) -> float:
    """Where training ends whatever the objective says: published, each image is seen once."""
    return math.inf if settings.cycle_images else min(map(len, images))


def _loop(trainer: Trainer, images: Sequence[ConceptImages], folder: RunFolder, progress: bool) -> float:
    """All steps that are left; returns the seconds they took."""
    settings, started, done = folder.settings, time.monotonic(), trainer.steps
    device, last = trainer.objective.device, last_step(images, settings)
    total = min(settings.steps, last)
    name = f"{settings.method}, at most"
    with deferred_stop() as stop, tqdm(total=total, initial=done, disable=not progress, desc=name) as bar:
        while not trainer.finished and trainer.steps < last:
            numbers = trainer.update(draw_step(images, settings.seed, trainer.steps, settings.ddim_steps, device))
            shown = (f"{n} {v:.2e}" for n, v in numbers.items() if n == "loss" or n.startswith("momentum"))
            bar.set_postfix_str(", ".join(shown), refresh=False)
            bar.update()
            ends = trainer.finished or trainer.steps >= last
            due = settings.checkpoint_every and trainer.steps % settings.checkpoint_every == 0
            if stop.is_set() or (due and not ends):
                folder.save_checkpoint(_with_images(trainer, images))
            if stop.is_set():
                raise KeyboardInterrupt
    return round(time.monotonic() - started, 3)


def _with_images(trainer: Trainer, images: Sequence[ConceptImages]) -> Progress:
    progress = trainer.progress()
    progress.images = digest_of(images)
    return progress
