"""ESD training: one network in memory, of which only the trained tensors are kept twice.

    model, identity = base_models.load("toy")
    edit = train_esd(model, identity, EsdSettings.for_family(identity.family, prompt="Van Gogh"), "models/my-run")

Given the same base, settings and seed, a run that was killed and resumed ends with the weights of an undisturbed one, bit
for bit on a CPU (a GPU's backward pass may round differently from run to run).
"""

import contextlib
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from erasure.edits import Edit, save
from erasure.errors import UserError
from erasure.runs import print_settings
from erasure.training import adam_state
from erasure.training.fitting import check_image_size
from erasure.training.stopping import deferred_stop
from ldm.models.diffusion.ddim import DDIMSampler
from methods.esd import esd
from methods.esd.run_folder import Progress, RunFolder
from methods.esd.settings import EsdSettings


@dataclass(frozen=True)
class Draws:
    """The random choices of one iteration: a concept (and what it is erased from), times, and the noise [1, C, h, w]."""

    concept: str
    origin: str | None
    t_enc: int
    t_ddpm: int
    start_code: Tensor


def draw(settings: EsdSettings, iteration: int, channels: int = 4) -> Draws:
    """Random choices of an iteration, from the seed and its number alone; drawn on the CPU, whatever the device."""
    chooser, generator = esd.iteration_generators(settings.seed, iteration)
    concept, origin = chooser.choice(settings.pairs)
    t_enc, t_ddpm = esd.draw_timestep(settings.ddim_steps, generator)
    if settings.exact_sampling:
        t_ddpm = esd.exact_timestep(t_enc, settings.ddim_steps)
    side = settings.image_size // 8
    return Draws(concept, origin, t_enc, t_ddpm, torch.randn(1, channels, side, side, generator=generator))


class Trainer:
    """A model in training. As a context manager it freezes all other weights, and at the end restores the base."""

    def __init__(self, model, settings: EsdSettings):
        unet = model.model.diffusion_model
        check_image_size(model, settings.image_size)
        try:
            self.selected = esd.select_parameters(unet, settings.train_method)
        except ValueError as error:
            raise UserError(str(error)) from None
        self.model, self.settings = model, settings
        self.device = next(iter(self.selected.values())).device
        self.sampler = DDIMSampler(model)
        self.embeddings = self._encode_texts()
        self.frozen = esd.FrozenWeights(model.apply_model, self.selected)
        # fused: the same formula in one pass, without the temporaries that double the memory of the trained weights
        self.optimizer = torch.optim.Adam(self.selected.values(), lr=settings.lr, fused=True)
        self.losses: list[float] = []

    @torch.no_grad()
    def _encode_texts(self) -> dict[str, Tensor]:
        """Every text that can be needed, encoded once, alone: text -> [1, L, D]."""
        texts = dict.fromkeys(["", *(text for pair in self.settings.pairs for text in pair if text is not None)])
        return {text: self.model.get_learned_conditioning([text]).to(self.device) for text in texts}

    def __enter__(self) -> "Trainer":
        self._required_grad = {p: p.requires_grad for p in self.model.model.diffusion_model.parameters()}
        self.model.model.diffusion_model.requires_grad_(False)
        for parameter in self.selected.values():
            parameter.requires_grad_(True)
        return self

    def __exit__(self, *_) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        for parameter, required in self._required_grad.items():
            parameter.requires_grad_(required)
        self.frozen.restore()

    # ---- one iteration ----------------------------------------------------------------------------------------------

    def latent(self, draws: Draws) -> Tensor:
        """z [1, C, h, w]: noise denoised towards the concept (or its origin) by the trained or the frozen network."""
        text = draws.concept if draws.origin is None else draws.origin
        frozen = self.settings.sampler_model == "frozen"
        with self.frozen.swapped() if frozen else contextlib.nullcontext():
            return esd.sample_till(
                self.sampler,
                self.embeddings[text],
                self.embeddings[""],
                self.settings.start_guidance,
                draws.start_code.to(self.device),
                draws.t_enc,
                self.settings.ddim_steps,
                exact=self.settings.exact_sampling,
            )

    def update(self, draws: Draws) -> float:
        """One iteration: the loss, after which the weights have made one step of Adam. UserError if it is NaN."""
        z = self.latent(draws)
        self.optimizer.zero_grad(set_to_none=True)
        loss = esd.esd_step(
            self.model.apply_model,
            self.frozen,
            z,
            torch.tensor([draws.t_ddpm], device=self.device),
            self.embeddings[""],
            self.embeddings[draws.concept],
            self.settings.negative_guidance,
            emb_f=None if draws.origin is None else self.embeddings[draws.origin],
        )
        loss.backward()
        value = loss.item()
        if not math.isfinite(value):
            iteration, lr = len(self.losses) + 1, self.settings.lr
            raise UserError(f"the loss is {value} in iteration {iteration}: training diverged; lower --lr (now {lr:g})")
        self.optimizer.step()
        self.losses.append(value)
        return value

    # ---- state ------------------------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """The trained weights by CompVis UNet name; they share memory with the model."""
        return {name: parameter.detach() for name, parameter in self.selected.items()}

    def progress(self) -> Progress:
        kept = adam_state.moments(self.optimizer, self.selected)
        return Progress(self.tensors(), kept["exp_avg"], kept["exp_avg_sq"], list(self.losses))

    def go_on_from(self, progress: Progress) -> None:
        self.load(progress.weights)
        steps = {name: torch.tensor(float(progress.iteration)) for name in self.selected}
        saved = {"exp_avg": progress.exp_avg, "exp_avg_sq": progress.exp_avg_sq, "step": steps}
        adam_state.restore(self.optimizer, self.selected, saved)
        self.losses = list(progress.losses)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self.selected.items():
            parameter.copy_(weights[name])


def train_esd(
    model,
    identity,
    settings: EsdSettings,
    out: Path,
    resume: bool = False,
    progress: bool = True,
    *,
    force: bool = False,
) -> Edit:
    """Train the edit that erases what `settings` say from `model` (LatentDiffusion, float32); the model stays as it is.

    identity: the model's BaseIdentity. out: the run's folder; the edit, the published files, losses and settings go
    there. `resume` continues a run that was killed, or starts one where there is none. A run that is finished is not
    repeated: its edit is loaded and returned. `force` discards what is there. `progress`: a bar and a few lines on
    stdout. UserError for settings that do not fit the model or the folder, and for a loss that is NaN.
    """
    say = print if progress else lambda *_: None
    folder = RunFolder(out, settings, identity)
    found = folder.open(resume, force)
    with Trainer(model, folder.settings) as trainer:
        if isinstance(found, Edit):
            say(f"{out} holds this run, finished: nothing to train (--force trains it again)")
            trainer.load(found.tensors)
            folder.write_weights(model)
            return found
        if progress:
            _print_plan(folder, trainer)
        if found is not None:
            trainer.go_on_from(found)
            say(f"resuming after iteration {found.iteration}")
        elif resume:
            say("nothing to resume: starting at the beginning")
        facts = {"device": str(trainer.device), "trained_tensors": len(trainer.selected)}
        folder.write_settings(**facts)
        seconds = _train(trainer, folder, progress)
        return _finish(trainer, folder, facts | {"seconds": seconds})


def _print_plan(folder: RunFolder, trainer: Trainer) -> None:
    print_settings(folder.settings.to_dict() | {"device": trainer.device})
    scalars = sum(parameter.numel() for parameter in trainer.selected.values())
    print(f"erasing {', '.join(map(repr, folder.settings.concepts))}")
    print(f"training {len(trainer.selected)} tensors with {scalars:,} weights; all others are frozen")


def _train(trainer: Trainer, folder: RunFolder, progress: bool) -> float:
    """All iterations that are left; returns the seconds they took."""
    settings, model = trainer.settings, trainer.model
    started, done = time.monotonic(), len(trainer.losses)
    with (
        deferred_stop() as stop,
        tqdm(total=settings.iterations, initial=done, disable=not progress, desc="ESD") as bar,
    ):
        for iteration in range(done + 1, settings.iterations + 1):
            loss = trainer.update(draw(settings, iteration - 1, model.channels))
            pace = (time.monotonic() - started) / (iteration - done)
            bar.set_postfix_str(f"loss {loss:.4f}, {1000 * pace:.0f} ms/iteration", refresh=False)
            bar.update()
            last = iteration == settings.iterations
            if settings.save_every and iteration % settings.save_every == 0 and not last:
                folder.write_epoch(model, trainer.tensors(), iteration)
            due = settings.checkpoint_every and iteration % settings.checkpoint_every == 0
            if stop.is_set() or (due and not last):
                folder.save_checkpoint(trainer.progress())
            if stop.is_set():
                raise KeyboardInterrupt
    return round(time.monotonic() - started, 3)


def _finish(trainer: Trainer, folder: RunFolder, facts: dict) -> Edit:
    edit = folder.edit_of({name: tensor.cpu() for name, tensor in trainer.tensors().items()})
    folder.write_losses(trainer.losses)
    folder.plot_losses(trainer.losses)
    folder.write_settings(**facts)
    save(edit, folder.edit_file)
    folder.checkpoint_file.unlink(missing_ok=True)
    folder.write_weights(trainer.model)
    return edit
