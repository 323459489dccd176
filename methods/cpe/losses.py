"""CPE's losses (arXiv 2506.22806, eq. 6 to 10, and train/train_cpe.py), without running the network or any projection.

A projection W with a residual yields F(x) = W x + s c(x) up. With F0(x) = W x, the target's states t, those n of its neutral
stand-in, guidance gamma, adversarial offsets d_i and protected states z, every difference that the losses square is

    W y - s c(x) up        erasing      x = t          y = (1 + gamma) (n - t)
                           adversarial  x = t + d_i    y = (1 + gamma) (n - t) - d_i
                           anchoring    x = z          y = 0
                           attacking    x = t + d_i    y = -d_i                     (trains d, and not the residual)

so that its square is y W^T W y - 2 s c (up W y) + s^2 c (up up^T) c. Summed over layers the first is a fixed quadratic form
of y, and what is left has rho columns a layer in place of its 320 to 1280 channels: the same losses and gradients, at a
fraction of the work.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from methods.cpe.projections import Projections
from methods.cpe.residuals import Residuals


class Split(NamedTuple):
    """A loss in the parts that keys and values contribute."""

    keys: Tensor
    values: Tensor

    @property
    def total(self) -> Tensor:
        return self.keys + self.values

    def numbers(self, name: str) -> dict[str, float]:
        """For a log."""
        return {name: self.total.item(), f"{name}_k": self.keys.item(), f"{name}_v": self.values.item()}


@dataclass
class EraseLosses:
    erasing: Split
    adversarial: Split | None  # none before the first adversarial phase
    anchoring: Split
    total: Tensor

    def numbers(self) -> dict[str, float]:
        """For a log."""
        numbers = {"loss": self.total.item()}
        for name in ("erasing", "adversarial", "anchoring"):
            if split := getattr(self, name):
                numbers |= split.numbers(name)
        return numbers


class Bilinear:
    """What the residuals of all layers contribute to a squared difference, for one state of the residuals."""

    def __init__(self, projections: Projections, residuals: Residuals):
        places = torch.cat([places for places, _ in projections.groups])
        back = torch.argsort(places).to(projections.device)
        pairs = list(zip(residuals.ups, (weights for _, weights in projections.groups), strict=True))
        self.mixed = torch.cat([up @ weights for up, weights in pairs])[back]  # up W [L, rho, D]
        self.own = torch.cat([up @ up.transpose(-1, -2) for up, _ in pairs])[back]  # up up^T [L, rho, rho]
        self.weight, self.of_kind, self.scale = projections.weight, projections.of_kind, residuals.scale

    def squares(self, c: Tensor) -> Tensor:
        """[2] of keys and of values: mean over items and tokens of |s c up|^2 for c [B, T, L, rho]."""
        own = torch.einsum("btlr,btlq,lrq->l", c, c, self.own)
        return self.of_kind @ (self.weight * self.scale**2 * own) / (c.shape[0] * c.shape[1])

    def differences(self, c: Tensor, y: Tensor) -> Tensor:
        """[2]: mean over items and tokens of |W y - s c up|^2 - |W y|^2, y [B, T, D]."""
        rows = (y @ self.mixed.flatten(0, 1).T).unflatten(-1, self.mixed.shape[:2])
        mixed = (c * rows).sum(dim=(0, 1, 3))
        return self.squares(c) - 2 * self.scale * (self.of_kind @ (self.weight * mixed)) / (c.shape[0] * c.shape[1])


def form(forms: Tensor, y: Tensor) -> Tensor:
    """[2]: mean over items and tokens of y K y^T for the forms K [2, D, D] of keys and of values."""
    rows = torch.matmul(y.flatten(0, -2), forms)  # [2, B T, D]
    return (rows * y.flatten(0, -2)).sum(dim=(1, 2)) / rows.shape[1]


@dataclass
class Offsets:
    """Adversarial offsets d [A, T, D] with what of the losses depends on them alone."""

    values: Tensor
    square: Tensor  # [2] form of d
    mean_rows: Tensor  # [2, T, D] mean over A of d K

    @classmethod
    @torch.no_grad()
    def of(cls, projections: Projections, values: Tensor) -> "Offsets":
        rows = torch.matmul(values.mean(dim=0), projections.forms)
        return cls(values, form(projections.forms, values), rows)


def erase_losses(
    projections: Projections,
    residuals: Residuals,
    target: Tensor,
    neutral: Tensor,
    protected: Tensor,
    guidance: float,
    pal: float,
    offsets: Offsets | None = None,
    adv_coef: float = 1.0,
) -> EraseLosses:
    """The losses of an erasing step, differentiable in the residuals' tensors.

    target, neutral: [T, D] in the same template; protected: [S + 1, T, D], the empty prompt's states among them.
    """
    bilinear = Bilinear(projections, residuals)
    goal = ((1 + guidance) * (neutral - target)).unsqueeze(0)
    attacked = target + offsets.values if offsets is not None else target.new_empty(0, *target.shape)
    c = residuals.coefficients(torch.cat([target.unsqueeze(0), attacked, protected]))
    own, of_attacks, of_protected = c.split([1, len(attacked), len(protected)])
    with torch.no_grad():
        fixed = form(projections.forms, goal)
    erasing = Split(*(fixed + bilinear.differences(own, goal)))
    anchoring = Split(*bilinear.squares(of_protected))
    total = erasing.total + pal * anchoring.total
    adversarial = None
    if offsets is not None:
        with torch.no_grad():
            crossed = (offsets.mean_rows * goal).sum(dim=(1, 2)) / goal.shape[1]
            fixed = fixed - 2 * crossed + offsets.square
        adversarial = Split(*(fixed + bilinear.differences(of_attacks, goal - offsets.values)))
        total = total + adv_coef * adversarial.total
    return EraseLosses(erasing, adversarial, anchoring, total)


class _Square(torch.autograd.Function):
    """Mean over items and tokens of d K d^T, with its gradient from the product that the value needs anyway."""

    @staticmethod
    def forward(ctx, values: Tensor, one_form: Tensor) -> Tensor:
        rows = (values.flatten(0, -2) @ one_form).view_as(values)
        ctx.save_for_backward(rows)
        return (rows * values).sum() / values.shape[:-1].numel()

    @staticmethod
    def backward(ctx, grad: Tensor):
        (rows,) = ctx.saved_tensors
        return rows * (2 * grad / rows.shape[:-1].numel()), None


@dataclass
class AttackLoss:
    """Its parts are worked out when they are looked at, for a log: of the sum, one product with a form is enough."""

    total: Tensor
    part_of_keys: Callable[[], Tensor]

    @property
    def keys(self) -> Tensor:
        with torch.no_grad():
            return self.part_of_keys()

    @property
    def values(self) -> Tensor:
        return self.total.detach() - self.keys

    def numbers(self, name: str) -> dict[str, float]:
        """For a log; before the offsets change."""
        return Split(self.keys, self.values).numbers(name)


def attack_loss(
    projections: Projections, residuals: Residuals, bilinear: Bilinear, target: Tensor, values: Tensor
) -> AttackLoss:
    """Loss of offsets d [A, T, D] that make the gated projections yield what the plain ones did; differentiable in them.

    bilinear: of the residuals, which do not change in this phase.
    """
    c = residuals.coefficients(target + values)
    differences = bilinear.differences(c, -values)
    total = _Square.apply(values, projections.whole_form) + differences.sum()
    return AttackLoss(total, lambda: form(projections.forms[:1], values)[0] + differences[0])


def fresh_offsets(count: int, tokens: int, dim: int, generator: torch.Generator) -> Tensor:
    """[count, tokens, dim], practically zero: uniform within 1 / sqrt(T D) / D^2, as published."""
    bound = 1 / (tokens * dim) ** 0.5 / dim**2
    return (2 * torch.rand(count, tokens, dim, generator=generator) - 1) * bound
