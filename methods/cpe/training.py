"""The training of one concept: erasing and adversarial phases in turn (train/train_cpe.py), from text states alone.

    problem = Problem(projections, target, neutral, empty, protected)
    edit = train(problem, folder, folder.open(resume, force))

All random choices of an iteration come from the seed and its place, so that a training that was killed and resumed ends in the
bytes of an undisturbed one (on one device; a GPU draws other numbers than the CPU).
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from erasure import edits
from erasure.errors import UserError
from erasure.training import adam_state
from erasure.training.draws import iteration_generators
from erasure.training.stopping import deferred_stop
from methods.cpe import losses, sampling
from methods.cpe.anchors import StateCache
from methods.cpe.projections import Projections
from methods.cpe.residuals import Residuals
from methods.cpe.run_folder import NEWEST, Progress, RunFolder, stacked
from methods.cpe.schedule import ATTACK, ERASE, Phase, phases
from methods.cpe.settings import CpeSettings


@dataclass
class Problem:
    """What a training reads; all but `protected` on the device that it runs on."""

    projections: Projections
    target: Tensor  # [n, T, D] states of the target in every template
    neutral: Tensor  # [n, T, D] of its neutral stand-in
    empty: Tensor  # [1, T, D] of ""
    protected: StateCache

    @property
    def device(self) -> torch.device:
        return self.target.device


class Trainer:
    """One phase of a training at a time."""

    def __init__(self, problem: Problem, settings: CpeSettings, residuals: Residuals, offsets: dict[str, Tensor]):
        self.problem, self.settings, self.residuals, self.offsets = problem, settings, residuals, offsets
        self.rows: list[dict] = []

    def start(self, phase: Phase) -> None:
        """Fresh optimizer and, of an adversarial phase, fresh offsets."""
        self.phase, erasing = phase, phase.kind == ERASE
        for tensor in self.residuals.trained().values():
            tensor.requires_grad_(erasing)
        if erasing:
            self.trained = self.residuals.trained()
            newest = self.offsets.get(NEWEST)
            self.attack = None if newest is None else losses.Offsets.of(self.problem.projections, newest)
        else:
            _, generator = iteration_generators("cpe-offsets", self.settings.seed, phase.stage)
            fresh = losses.fresh_offsets(self.settings.num_add_prompts, *self.problem.target.shape[1:], generator)
            self.trained = {NEWEST: fresh.to(self.problem.device).requires_grad_()}
            with torch.no_grad():
                self.bilinear = losses.Bilinear(self.problem.projections, self.residuals)
        decay = {} if self.settings.optimizer_type == "Adam" else {"weight_decay": 1e-2}
        kind = torch.optim.Adam if self.settings.optimizer_type == "Adam" else torch.optim.AdamW
        self.optimizer = kind(self.trained.values(), lr=phase.lr, betas=(0.9, 0.999), eps=1e-8, fused=True, **decay)

    def finish(self) -> None:
        """Of an adversarial phase: its offsets are those of the next stage."""
        if self.phase.kind == ATTACK:
            self.offsets = stacked(self.offsets, self.trained[NEWEST].detach())

    def update(self, iteration: int, wanted: bool) -> None:
        """One iteration; `wanted`: note its losses. UserError where one that is looked at is NaN: nothing is changed then."""
        rng, generator = self._generators(iteration)
        template = rng.randrange(len(self.problem.target))
        numbers = self._erase(template, rng, generator) if self.phase.kind == ERASE else self._attack(template)
        lr = self.phase.lr_at(iteration)
        # on a GPU, looking at a number waits for all that was asked of it
        if wanted or self.problem.device.type == "cpu":
            self._check(self.loss.item(), iteration)
        if wanted:
            place = {"stage": self.phase.stage, "phase": self.phase.kind, "iteration": iteration, "lr": lr}
            self.rows.append(place | numbers())
        self.optimizer.zero_grad(set_to_none=True)
        self.loss.backward()
        if self.settings.max_grad_norm:
            torch.nn.utils.clip_grad_norm_(self.trained.values(), self.settings.max_grad_norm)
        self.optimizer.param_groups[0]["lr"] = lr
        self.optimizer.step()

    def _generators(self, iteration: int):
        name = f"cpe-{self.phase.kind}-{self.phase.stage}"
        rng, generator = iteration_generators(name, self.settings.seed, iteration)
        if self.problem.device.type != "cpu":
            generator = torch.Generator(self.problem.device).manual_seed(generator.initial_seed())
        return rng, generator

    def _erase(self, template: int, rng, generator):
        s, problem = self.settings, self.problem
        anchors = sampling.draw_anchors(
            problem.protected, s.sampling_batch_size, rng, generator, s.noise_scale, s.mixup
        )
        result = losses.erase_losses(
            problem.projections,
            self.residuals,
            problem.target[template],
            problem.neutral[template],
            torch.cat([problem.empty, anchors]),
            s.guidance,
            s.pal,
            self.attack,
            s.adv_coef,
        )
        self.loss = result.total
        return result.numbers

    def _attack(self, template: int):
        split = losses.attack_loss(
            self.problem.projections, self.residuals, self.bilinear, self.problem.target[template], self.trained[NEWEST]
        )
        self.loss = split.total
        return lambda: split.numbers("loss")

    def _check(self, loss: float, iteration: int) -> None:
        if not math.isfinite(loss):
            where = f"iteration {iteration} of stage {self.phase.stage} ({self.phase.kind})"
            raise UserError(f"the loss is {loss} in {where}: training diverged; lower lr or pal in the configuration")

    # ---- state -----------------------------------------------------------------------------------------------------

    def progress(self, phase: int, iteration: int) -> Progress:
        """All that the next iteration depends on."""
        gates = self.residuals.tensors(self.problem.projections)
        offsets = dict(self.offsets)
        if self.phase.kind == ATTACK:
            offsets["running"] = self.trained[NEWEST].detach()
        moments = adam_state.moments(self.optimizer, self.trained)
        return Progress(gates, offsets, **moments, phase=phase, iteration=iteration, rows=self.rows)

    @torch.no_grad()
    def go_on_from(self, progress: Progress) -> None:
        """After `start` of the phase that was running; gates and offsets are given when the trainer is made."""
        if "running" in progress.offsets:
            self.trained[NEWEST].copy_(progress.offsets["running"])
        adam_state.restore(self.optimizer, self.trained, {key: getattr(progress, key) for key in adam_state.MOMENTS})
        self.rows = list(progress.rows)


# ---- a run ---------------------------------------------------------------------------------------------------------


def train(problem: Problem, folder: RunFolder, found: Progress | None = None, progress: bool = True) -> edits.Edit:
    """Train one concept, or what is left of it; gates, offsets, losses and settings go into the folder.

    found: what `folder.open` or `folder.read_stage` returned. UserError for a loss that is NaN.
    """
    s, started = folder.settings, time.monotonic()
    plan = phases(s)
    if found is None and s.resume_stage:
        first = next(i for i, phase in enumerate(plan) if phase.stage == s.resume_stage)
        found = replace(folder.read_stage(s.resume_stage), phase=first)
    trainer = _trainer(problem, s, found)
    folder.write_settings(device=str(problem.device))
    with _bar(plan, found, progress, s.target) as bar, deferred_stop() as stop:
        for number in range(found.phase if found else 0, len(plan)):
            trainer.start(plan[number])
            resumes = found is not None and number == found.phase and found.iteration
            if resumes:
                trainer.go_on_from(found)
            _run(trainer, folder, number, found.iteration if resumes else 0, bar, stop)
            trainer.finish()
            ends = number + 1 == len(plan) or plan[number + 1].stage != plan[number].stage
            stage = plan[number].stage + 1
            if ends and stage % s.stage_interval == 0:
                folder.write_stage(trainer.residuals.tensors(problem.projections), trainer.offsets, stage)
    edit = folder.edit_of(trainer.residuals.tensors(problem.projections))
    folder.write_losses(trainer.rows)
    folder.write_settings(device=str(problem.device), seconds=round(time.monotonic() - started, 3))
    folder.write_offsets(trainer.offsets)
    edits.save_gates(edit, folder.edit_file)
    folder.checkpoint_file.unlink(missing_ok=True)
    return edit


def _trainer(problem: Problem, s: CpeSettings, found: Progress | None) -> Trainer:
    if found is None:
        _, generator = iteration_generators("cpe-start", s.seed, 0)
        residuals = Residuals.fresh(problem.projections, s.gate_rank, s.rank, s.alpha, s.separate_key, generator)
        return Trainer(problem, s, residuals, {})
    residuals = Residuals.of_tensors(found.gates, problem.projections, s.separate_key)
    offsets = {name: t.to(problem.device) for name, t in found.offsets.items() if name != "running"}
    return Trainer(problem, s, residuals, offsets)


def _run(trainer: Trainer, folder: RunFolder, number: int, first: int, bar, stop) -> None:
    """The iterations of one phase from `first` on."""
    s, phase = folder.settings, trainer.phase
    for iteration in range(first, phase.iterations):
        wanted = iteration % s.log_every == 0 or iteration == phase.iterations - 1
        trainer.update(iteration, wanted)
        if wanted:
            bar.set_postfix_str(
                f"stage {phase.stage} {phase.kind}, Loss: {trainer.rows[-1]['loss']:.4f}", refresh=False
            )
        bar.update()
        due = s.checkpoint_every and (iteration + 1) % s.checkpoint_every == 0 and iteration + 1 < phase.iterations
        if stop.is_set() or due:
            folder.save_checkpoint(trainer.progress(number, iteration + 1))
        if stop.is_set():
            raise KeyboardInterrupt


@contextmanager
def _bar(plan: list[Phase], found: Progress | None, show: bool, target: str) -> Iterator[tqdm]:
    done = sum(phase.iterations for phase in plan[: found.phase]) + found.iteration if found else 0
    total = sum(phase.iterations for phase in plan)
    with tqdm(total=total, initial=done, disable=not show, desc=f"CPE of {target}", unit=" iterations") as bar:
        yield bar
