"""What a training of this family optimises: the class that the loop in `training` drives, and losses as pure functions.

An objective owns the tensors that are trained and puts them into the network; the loop owns images, random draws, Adam and
the run's folder:

    with CiE(model, encode, "Van Gogh", reg_beta=3e-5, threshold=0, iterations=1000) as objective:
        for i in range(...):
            terms = objective.terms(step)
            terms.loss.backward()
            ...                                    # Adam on objective.trained.values()
            if objective.finished(i, terms.numbers): break
        edit = objective.edit(settings, base)
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from erasure.edits import Edit
from erasure.errors import UserError
from erasure.training.frozen import FrozenWeights

Encode = Callable[[str], Tensor]
"""A text -> its hidden states [1, L, D]."""


@dataclass(frozen=True)
class Terms:
    """Of one step: the loss, a scalar with a gradient, and the numbers that are shown and kept, the loss among them."""

    loss: Tensor
    numbers: dict[str, float]


class Objective(ABC):
    """Something to train on a LatentDiffusion. As a context manager it changes the network, and at the end restores it.

    Subclasses set `concepts` (each has a folder of images; a step holds one image of each) and `trained` (name -> leaf
    tensor that Adam updates) when they are constructed. `edit` has to be called within the context.
    """

    method: str  # in the edit and in settings.json
    concepts: list[str]
    trained: dict[str, Tensor]

    def __init__(self, model):
        self.model = model
        self.unet = model.model.diffusion_model
        self.device = next(self.unet.parameters()).device

    def __enter__(self) -> "Objective":
        self._required_grad = {p: p.requires_grad for p in self.unet.parameters()}
        self.unet.requires_grad_(False)
        for tensor in self.trained.values():
            tensor.requires_grad_(True)
        return self

    def __exit__(self, *_) -> None:
        for tensor in self.trained.values():
            tensor.grad = None
        for parameter, required in self._required_grad.items():
            parameter.requires_grad_(required)

    @abstractmethod
    def terms(self, step) -> Terms:
        """The loss at one step (`training.Step`): time t [1], and of each concept a latent z0 and a noise [1, C, h, w]."""

    @abstractmethod
    def finished(self, iteration: int, numbers: dict[str, float]) -> bool:
        """Whether training ends, asked after Adam's step of `iteration` (from 0 on) with that step's numbers."""

    @abstractmethod
    def edit(self, settings: dict[str, Any], base: dict[str, Any]) -> Edit:
        """The result; settings of the run and `BaseIdentity.to_dict()` go into its header."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(tensors, numbers for json) that a resumed run needs beside trained tensors, their gradients and Adam's moments."""
        return {}, {}

    def load(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        """Take the state back."""
        if tensors or numbers:
            raise ValueError(f"{type(self).__name__} keeps no state, and is given {[*tensors, *numbers]}")

    # ---- for subclasses ---------------------------------------------------------------------------------------------

    def noised(self, step, concept: int = 0) -> Tensor:
        """x_t [1, C, h, w] of a concept's latent."""
        return self.model.q_sample(step.latents[concept], step.t, step.noises[concept])

    def predict(self, x: Tensor, t: Tensor, contexts: list[Tensor]) -> list[Tensor]:
        """The network's predictions [1, C, h, w] at one (x_t, t) for several texts, from one batched forward."""
        n = len(contexts)
        return list(self.model.apply_model(x.repeat(n, 1, 1, 1), t.repeat(n), torch.cat(contexts)).float().chunk(n))


class CrossAttentionWeights(Objective):
    """Trains all parameters of the cross-attention layers (80 tensors in SD v1) for one concept.

    The frozen model of the published code is the same network with the original tensors (`original`). The published code
    computed gradients of the whole UNet; here all else is frozen.
    """

    def __init__(self, model, encode: Encode, concept: str, texts: Iterable[str], iter_break: int):
        super().__init__(model)
        self.concepts = [concept]
        self.trained = {name: p for name, p in self.unet.named_parameters() if "attn2" in name}
        with torch.no_grad():
            self.texts = {text: encode(text).to(self.device) for text in dict.fromkeys(texts)}
        self.iter_break = iter_break

    def __enter__(self) -> "CrossAttentionWeights":
        self._frozen = FrozenWeights(self.model.apply_model, self.trained)
        return super().__enter__()

    def __exit__(self, *exception) -> None:
        super().__exit__(*exception)
        self._frozen.restore()

    @torch.no_grad()
    def original(self, x: Tensor, t: Tensor, contexts: list[Tensor]) -> list[Tensor]:
        """`predict` of the base model. To be called before `predict`: no graph may be alive then."""
        with self._frozen.swapped():
            return self.predict(x, t, contexts)

    def change(self) -> Tensor:
        """Mean over the trained tensors of the sum of absolute changes; differentiable."""
        return mean_l1(p - self._frozen.originals[name] for name, p in self.trained.items())

    @torch.no_grad()
    def change_to_show(self) -> float:
        """`change` where it is no part of the loss."""
        return self.change().item()

    def finished(self, iteration: int, numbers: dict[str, float]) -> bool:
        """As published, `iter_break` + 1 steps are made."""
        return iteration >= self.iter_break

    def edit(self, settings: dict[str, Any], base: dict[str, Any]) -> Edit:
        """The trained tensors that changed: the last layer's values and output get no gradient from FMN."""
        changed = {
            name: p.detach().to("cpu", copy=True)
            for name, p in self.trained.items()
            if not torch.equal(p.detach(), self._frozen.originals[name])
        }
        return Edit(self.method, self.concepts, settings, base, changed)


class MomentumStop:
    """A running average of a noisy number, m_0 = its first value, m_n = alpha m_{n-1} + (1 - alpha) value, and when to stop.

    Stops after iteration i >= min_iter (published: i > 10) if m is below the threshold, or i is max_iter or beyond
    (published: only if they are equal, so that a limit below 11 limited nothing). UserError for numbers that make no sense.
    """

    def __init__(self, alpha: float = 0.9, threshold: float = 0.0, min_iter: int = 11, max_iter: int = 1000):
        if not 0 <= alpha < 1:
            raise UserError(f"momentum must be at least 0 and less than 1, not {alpha}")
        if min_iter < 0:
            raise UserError(f"min_iter must not be negative, as {min_iter} is")
        self.alpha, self.threshold, self.min_iter, self.max_iter = alpha, threshold, min_iter, max_iter
        self.momentum: float | None = None

    def update(self, value: float) -> float:
        """Take one more value; returns the average."""
        self.momentum = value if self.momentum is None else self.alpha * self.momentum + (1 - self.alpha) * value
        return self.momentum

    @property
    def below(self) -> bool:
        """Whether the average is below the threshold."""
        return self.momentum is not None and self.momentum < self.threshold

    def finished(self, iteration: int) -> bool:
        return iteration >= self.min_iter and (self.below or iteration >= self.max_iter)


# ---- losses --------------------------------------------------------------------------------------------------------


def correlation(r: Tensor, r0: Tensor) -> Tensor:
    """Mean over all elements of r * r0: what a concept adds to the prediction, in the trained and the original network."""
    return (r * r0).mean()


def fmn_loss(d_sims: Iterable[Tensor]) -> Tensor:
    """Sum over layers of the mean squared difference of logits, each [B * heads, N, L], between two texts."""
    return torch.stack([d.float().square().mean() for d in d_sims]).sum()


def abconcept_loss(
    e_pn: Tensor, e_p0: Tensor, e_n: Tensor, anchor_weight: float = 10.0
) -> tuple[Tensor, Tensor, Tensor]:
    """(loss, concept term, weighted anchor term): the trained network's predictions for the concept e_pn and for its anchor
    e_p0 both go to the original's for the anchor e_n, the latter `anchor_weight` times as strongly."""
    concept, anchor = F.mse_loss(e_pn, e_n), anchor_weight * F.mse_loss(e_p0, e_n)
    return concept + anchor, concept, anchor


def mean_l1(changes: Iterable[Tensor]) -> Tensor:
    """Mean over tensors of the sum of their absolute values."""
    return torch.stack([change.abs().sum() for change in changes]).mean()
