"""Training of the artist classifier, with Lightning: artist-cls-train.py's algorithm.

Published: ResNet-18 with ImageNet weights of which only the new last layer is trained, by SGD with a triangular cycle of
learning rate and momentum; batch norm runs in training mode, so that the frozen trunk's statistics adapt and are saved.
"""

from __future__ import annotations

import dataclasses
import logging
import signal
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from tqdm import tqdm

from erasure.errors import UserError

SCHEDULES = ("cyclic", "multistep")
_LOW_MOMENTUM, _HIGH_MOMENTUM = 0.8, 0.9  # the cycle of torch's CyclicLR, which replaces --momentum
_MILESTONES = (100 / 110, 105 / 110)


@dataclass(frozen=True)
class TrainingSettings:
    """What artist-cls-train.py's flags say."""

    architecture: str = "resnet18"
    from_scratch: bool = False  # all weights are trained, from random ones
    image_size: int = 512
    batch_size: int = 30
    epochs: int = 20
    lr_schedule: str = "cyclic"
    lr_min: float = 0.0
    lr_max: float = 0.01
    weight_decay: float = 5e-4
    momentum: float = 0.9
    seed: int = 0

    def __post_init__(self):
        if self.lr_schedule not in SCHEDULES:
            raise UserError(f"schedule {self.lr_schedule!r} is not one of {', '.join(SCHEDULES)}")
        for name in ("image_size", "batch_size", "epochs"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if not 0 <= self.lr_min <= self.lr_max < float("inf") or not self.lr_max:
            raise UserError(f"learning rates must be 0 <= lr-min <= lr-max, not {self.lr_min} and {self.lr_max}")
        if not 0 <= self.seed < 2**32:  # Shuffled multiplies it
            raise UserError(f"seed must be from 0 to {2**32 - 1}, not {self.seed}")
        if self.weight_decay < 0 or not 0 <= self.momentum < 1:
            raise UserError("weight-decay must not be negative, and momentum be from 0 to below 1")

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def rates(step: int, steps: int, s: TrainingSettings) -> tuple[float, float]:
    """(learning rate, momentum) of a step out of `steps`.

    cyclic: torch's triangular CyclicLR over the whole training, up to lr_max in the middle, momentum the other way round;
    the first step has lr_min. multistep: a tenth from 100/110 of the steps, a hundredth from 105/110.
    """
    if s.lr_schedule == "multistep":
        passed = sum(step >= milestone * steps for milestone in _MILESTONES)
        return s.lr_max * 0.1**passed, s.momentum
    height = 1 - abs(2 * step / steps - 1)
    return (
        s.lr_min + (s.lr_max - s.lr_min) * height,
        _HIGH_MOMENTUM - (_HIGH_MOMENTUM - _LOW_MOMENTUM) * height,
    )


class Classifier(LightningModule):
    """A network with a last layer `fc`, and how it is trained; its tensors are called ``model.*``, as published.

    steps: batches of the whole training. momenta: SGD's, of a training that goes on, by parameter; first_step: the batches
    it has had.
    """

    def __init__(self, model: nn.Module, settings: TrainingSettings, steps: int):
        super().__init__()
        self.model, self.settings, self.steps = model, settings, steps
        self.first_step = 0
        self.momenta: dict[str, Tensor] = {}
        self.confusion = torch.zeros(0, 0, dtype=torch.int64)  # of the last validation: [class, answer]
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(settings.from_scratch or name.startswith("fc."))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)

    def trained(self) -> dict[str, nn.Parameter]:
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def configure_optimizers(self):
        s, trained = self.settings, self.trained()
        optimizer = torch.optim.SGD(trained.values(), s.lr_max, s.momentum, weight_decay=s.weight_decay)
        for name, momentum in self.momenta.items():
            optimizer.state[trained[name]]["momentum_buffer"] = momentum.to(self.device)
        return optimizer

    def on_train_batch_start(self, batch, batch_idx: int) -> None:
        group = self.optimizers().param_groups[0]
        group["lr"], group["momentum"] = rates(self.first_step + self.global_step, self.steps, self.settings)

    def training_step(self, batch, batch_idx: int) -> Tensor:
        images, labels = batch
        loss = F.cross_entropy(self(images), labels)
        if not torch.isfinite(loss):
            raise UserError("the loss is not a number: a smaller --lr-max, or other weights")
        return loss

    def on_validation_epoch_start(self) -> None:
        classes = self.model.fc.out_features
        self.confusion = torch.zeros(classes, classes, dtype=torch.int64)

    def validation_step(self, batch, batch_idx: int) -> None:
        images, labels = batch
        answers = self(images).argmax(dim=1)
        self.confusion.index_put_((labels.cpu(), answers.cpu()), torch.ones((), dtype=torch.int64), accumulate=True)

    @property
    def accuracy(self) -> float:
        """Share of right answers in the last validation."""
        return self.confusion.trace().item() / self.confusion.sum().item()

    def sgd_momenta(self) -> dict[str, Tensor]:
        """SGD's state, by parameter: all that a training needs besides the weights to go on."""
        state = self.optimizers().state
        return {name: state[p]["momentum_buffer"].detach().clone() for name, p in self.trained().items() if p in state}


class _EachEpoch(Callback):
    """After the accuracy of an epoch is known: tell, and move the bar."""

    def __init__(self, told: Callable[[Classifier, int], None], first_epoch: int, bar: tqdm):
        self.told, self.first_epoch, self.bar = told, first_epoch, bar

    def on_train_batch_end(self, *_) -> None:
        self.bar.update()

    def on_validation_epoch_end(self, trainer: Trainer, module: Classifier) -> None:
        self.told(module, self.first_epoch + trainer.current_epoch)


def fit(
    module: Classifier,
    train_batches: Iterable,
    eval_batches: Iterable,
    told: Callable[[Classifier, int], None],
    first_epoch: int = 0,
    device: str = "cpu",
    progress: bool = True,
) -> None:
    """Train epochs `first_epoch` ... ; `told(module, epoch)` after each, when `module.accuracy` is that of eval_batches.

    Batches are (images [B, 3, h, w], labels [B] int64). UserError for a loss that is not a number.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)  # devices and tips are no news
    module.train()
    with (
        warnings.catch_warnings(),
        tqdm(
            total=module.steps, initial=module.first_step, desc="training", unit=" batches", disable=not progress
        ) as bar,
    ):
        warnings.simplefilter("ignore")  # Lightning's advice on workers and loggers
        trainer = Trainer(
            max_epochs=module.settings.epochs - first_epoch,
            accelerator="cpu" if device == "cpu" else "gpu",
            devices=1 if device == "cpu" else [int(device.partition(":")[2] or 0)],
            callbacks=[_EachEpoch(told, first_epoch, bar)],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        try:
            trainer.fit(module, train_batches, eval_batches)
        except SystemExit:  # what Lightning makes of Ctrl-C, which it ignores from then on
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from None
