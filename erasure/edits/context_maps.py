"""Edits that are one linear map of the text conditioning: every key and value projection W becomes W P.

UCE's and RECE's closed forms give all 32 projections of Stable Diffusion v1 the same P = I + D^T M, so that two matrices of
one row per edited token say all of it. The model that results equals the unedited one with conditioning rows c -> P c.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from erasure.edits.applying import UNET, Attached, register_kind, replace_weights
from erasure.errors import UserError

KIND = "context_map"
PROJECTIONS = ("attn2.to_k.weight", "attn2.to_v.weight")


@dataclass(frozen=True)
class ContextMap:
    """P = I + left^T right on conditioning vectors of size D. left [n, D], or None for the identity; right [n, D]."""

    left: Tensor | None
    right: Tensor

    @property
    def dim(self) -> int:
        return self.right.shape[1]

    def applied(self, weight: Tensor) -> Tensor:
        """weight [O, D] -> weight P, float64."""
        weight = weight.to(self.right.device, torch.float64)
        if self.left is None:
            return torch.addmm(weight, weight, self.right.double())
        return torch.addmm(weight, weight @ self.left.double().T, self.right.double())

    def on_context(self, context: Tensor) -> Tensor:
        """Conditioning rows [..., D] -> P times each, in their dtype."""
        moved = context.double() @ self.right.double().T
        return (context + (moved if self.left is None else moved @ self.left.double())).to(context.dtype)

    def then(self, later: ContextMap) -> ContextMap:
        """P times `later`'s P: what both do to a weight, one after the other."""
        if self.dim != later.dim:
            raise UserError(f"maps of conditionings of size {self.dim} and {later.dim} cannot be composed")
        if self.left is None or later.left is None or len(self.right) + len(later.right) > self.dim // 2:
            both = later.applied(self.matrix())
            return ContextMap(None, both - torch.eye(self.dim, dtype=both.dtype, device=both.device))
        # P Q = I + D1'M1 + (P D2')M2
        left = torch.cat([self.left.double(), self.on_context(later.left.double())])
        return ContextMap(left, torch.cat([self.right, later.right]))

    def matrix(self) -> Tensor:
        """P [D, D] float64."""
        return self.applied(torch.eye(self.dim, dtype=torch.float64))

    @classmethod
    def identity(cls, dim: int) -> ContextMap:
        return cls(*torch.zeros(2, 0, dim, dtype=torch.float64))

    # ---- in files: float32, as the weights are -----------------------------------------------------------------------

    def tensors(self) -> dict[str, Tensor]:
        """What an edit file holds: at most 8 D bytes per row, and never more than the 4 D^2 of the whole matrix."""
        if self.left is None:
            return {"delta": self.right.float()}
        if 2 * len(self.left) > self.dim:
            return {"delta": (self.left.double().T @ self.right.double()).float()}
        return {"left": self.left.float(), "right": self.right.float()}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> ContextMap:
        """UserError for tensors that are no map."""
        shapes = {name: tuple(t.shape) for name, t in tensors.items()}
        rows = next(iter(shapes.values()), ())
        if shapes.keys() == {"delta"} and len(rows) == 2 and rows[0] == rows[1]:
            return cls(None, tensors["delta"].double())
        if shapes.keys() == {"left", "right"} and len(rows) == 2 and len(set(shapes.values())) == 1:
            return cls(tensors["left"].double(), tensors["right"].double())
        raise UserError(f"not a map of conditionings: tensors {shapes}")


def context_projections(model: nn.Module) -> dict[str, nn.Parameter]:
    """Full name -> weight [O, D] of every cross-attention's to_k and to_v, in the order of the model's parameters."""
    return {name: p for name, p in model.named_parameters() if name.startswith(UNET) and name.endswith(PROJECTIONS)}


@register_kind(KIND)
def _attach_context_map(model: nn.Module, edit, stack) -> Attached:
    """Multiply the projections, as they are now, by P: maps compose, also with edits that put other weights there."""
    context_map = ContextMap.from_tensors(edit.tensors)
    weights = context_projections(model)
    dims = {weight.shape[1] for weight in weights.values()}
    if dims != {context_map.dim}:
        there = " and ".join(map(str, sorted(dims))) or "none"
        raise UserError(f"{edit.label()} is for conditionings of size {context_map.dim}; the model's are {there}")
    return replace_weights(weights, {name: context_map.applied(w.data) for name, w in weights.items()}, edit.label())
