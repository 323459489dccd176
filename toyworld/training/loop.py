"""One resumable training loop for every stage of the embedded model."""

import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from erasure.runs import atomic_path

CHECKPOINT_SECONDS = 60


@dataclass
class Schedule:
    """Length and learning rate of a stage: linear warm-up, then cosine decay to a twentieth."""

    steps: int
    lr: float
    warmup: int = 100

    def factor(self, step):
        if step < self.warmup:
            return (step + 1) / self.warmup
        progress = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def step_generator(seed, step):
    """Random numbers of one training step: a function of (seed, step), so that a resumed run draws the same."""
    return torch.Generator().manual_seed(seed * 1_000_003 + step)


def train(name, modules, schedule, loss_fn, work, *, ema=None, seed=0, betas=(0.9, 0.99), weight_decay=0.0):
    """Minimise ``loss_fn(step, generator) -> scalar`` over the parameters of ``modules``; resumes from ``work``.

    modules: dict name -> nn.Module; ``ema`` (an :class:`Ema` over one of them) is updated after every step. The state
    is written to ``work/<name>.pt`` about once a minute. Raises FloatingPointError on a loss that is not finite.
    """
    parameters = [p for module in modules.values() for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.lr, betas=betas, weight_decay=weight_decay)
    state_path = Path(work) / f"{name}.pt"
    first = _restore(state_path, modules, optimizer, ema)
    saved_at = time.monotonic()
    bar = tqdm(range(first, schedule.steps), initial=first, total=schedule.steps, desc=name, mininterval=2)
    average = None
    for step in bar:
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.factor(step)
        loss = loss_fn(step, step_generator(seed, step))
        if not torch.isfinite(loss):
            raise FloatingPointError(f"{name}: the loss is {loss.item()} at step {step}")
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if ema is not None:
            ema.update(step)
        value = loss.item()
        average = value if average is None else 0.98 * average + 0.02 * value
        bar.set_postfix(loss=f"{average:.4f}", refresh=False)
        if time.monotonic() - saved_at > CHECKPOINT_SECONDS or step + 1 == schedule.steps:
            _save(state_path, step + 1, modules, optimizer, ema)
            saved_at = time.monotonic()


class Ema:
    """Exponential moving average of a module's parameters, warmed up as LitEma does."""

    def __init__(self, module, decay=0.999):
        self.parameters = list(module.parameters())
        self.shadow = [p.detach().clone() for p in self.parameters]
        self.decay = decay

    def update(self, step):
        decay = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, [p.detach() for p in self.parameters], 1 - decay)

    @torch.no_grad()
    def copy_to_model(self):
        for parameter, shadow in zip(self.parameters, self.shadow, strict=True):
            parameter.copy_(shadow)


def _save(path, step, modules, optimizer, ema):
    state = {
        "step": step,
        "modules": {name: module.state_dict() for name, module in modules.items()},
        "optimizer": optimizer.state_dict(),
        "ema": [] if ema is None else ema.shadow,
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _restore(path, modules, optimizer, ema):
    if not path.exists():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    for name, module in modules.items():
        module.load_state_dict(state["modules"][name])
    optimizer.load_state_dict(state["optimizer"])
    if ema is not None:
        for shadow, value in zip(ema.shadow, state["ema"], strict=True):
            shadow.copy_(value)
    return state["step"]
