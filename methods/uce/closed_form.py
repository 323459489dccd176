"""The closed form that UCE and RECE share (UCE, arXiv 2308.14761, Eq. 7), in float64.

Of a weight W [O, D], rows C [n, D] that are to be answered as V* [n, O], and rows P that are to be answered as before,

    W' = argmin  s_e ||C W'^T - V*||^2 + s_p ||P W'^T - P W^T||^2 + lamb ||W' - W||^2
       = W + s_e (V* - C W^T)^T M,    M = C A^-1,    A = lamb I + s_e C^T C + s_p P^T P

A, and with it M, is the same for every layer. With V* = C* W^T (technique "replace") so is everything but W:
W' = W P, P = I + s_e (C* - C)^T M.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.edits.context_maps import ContextMap
from erasure.errors import UserError

RESIDUAL_LIMIT = 1e-6  # of the solve, relative; beyond it the system is singular in all but name
CONDITION_WARNING = 1e7
_POWER_STEPS = 30
_BLOCKS = 8
_FOLD = 4096  # rows that are gathered before they go into sums


def gram(*matrices: Tensor) -> Tensor:
    """Sum of R^T R [D, D] float64 over matrices R [n, D], of which only blocks on and above the diagonal are multiplied."""
    dim = matrices[0].shape[1]
    total = torch.zeros(dim, dim, dtype=torch.float64, device=matrices[0].device)
    blocks = [slice(int(part[0]), int(part[-1]) + 1) for part in torch.arange(dim).chunk(_BLOCKS)]
    for rows in matrices:
        rows = rows.double()
        for block in blocks:
            total[block, block.start :].addmm_(rows[:, block].T, rows[:, block.start :])
    return total.triu_().add_(total.triu(1).T)


class NormalMatrix:
    """A = lamb I + sum of scale R^T R over the rows R that are added. UserError if it is singular."""

    def __init__(self, dim: int, lamb: float, device="cpu"):
        self.sum = torch.zeros(dim, dim, dtype=torch.float64, device=device)
        self.sum.diagonal().add_(lamb)
        self.lamb = lamb

    def add(self, rows: Tensor, scale: float) -> Tensor:
        """Add scale R^T R of rows [n, D]; returns R^T R."""
        added = gram(rows)
        self.sum.add_(added, alpha=scale)
        return added

    def factor(self) -> Factored:
        factor, failed = torch.linalg.cholesky_ex(self.sum)
        if not torch.isfinite(self.sum).all():
            raise UserError("the closed form has NaN or infinities in it: the text encoder's states are not finite")
        if failed.item():
            why = "is too small for these texts" if self.lamb > 0 else "0 needs texts that span the conditioning space"
            raise UserError(f"the closed form has no unique solution: lamb {why}; raise --lamb")
        return Factored(self.sum, factor)


@dataclass(frozen=True)
class Factored:
    """A and its Cholesky factor."""

    matrix: Tensor
    factor: Tensor

    def right(self, rows: Tensor) -> Tensor:
        """rows [n, D] -> rows A^-1. UserError if the result does not solve the system."""
        solved = torch.cholesky_solve(rows.T.contiguous(), self.factor).T
        residual = (torch.linalg.norm(solved @ self.matrix - rows) / torch.linalg.norm(rows).clamp_min(1e-300)).item()
        if not residual <= RESIDUAL_LIMIT:
            raise UserError(
                f"the closed form is singular (residual {residual:.0e}): raise --lamb or preserve more texts"
            )
        return solved

    def condition(self) -> float:
        """Estimate (from below, within a few percent) of the condition number, by power iterations."""
        generator = torch.Generator().manual_seed(0)
        start = torch.randn(len(self.matrix), 1, generator=generator, dtype=torch.float64).to(self.matrix.device)
        largest = _norm_by_power(lambda x: self.matrix @ x, start)
        return largest * _norm_by_power(lambda x: torch.cholesky_solve(x, self.factor), start)


def _norm_by_power(multiply, x: Tensor) -> float:
    norm = torch.ones(())
    for _ in range(_POWER_STEPS):
        x = multiply(x)
        norm = torch.linalg.norm(x)
        x = x / norm
    return norm.item()


class SharedMap:
    """Gathers pairs (C, C*), and in `normal` preserved rows; `solve` gives the P of technique "replace".

    Few rows stay rows, so that P keeps its factors; from D / 2 rows on their products are summed up instead, and any
    number of texts takes the memory of a few D x D matrices.
    """

    def __init__(self, dim: int, lamb: float, erase_scale: float = 1.0, device="cpu"):
        self.normal = NormalMatrix(dim, lamb, device)
        self.erase_scale = erase_scale
        self._pending: list[tuple[Tensor, Tensor, object]] = []
        self._delta: Tensor | None = None  # sum of (C* - C)^T C of what was folded

    def erase(self, rows: Tensor, targets: Tensor, guide: object = None) -> None:
        """rows [n, D] that are to be answered as `targets` [n, D] are.

        Targets given under the same `guide` are beginnings of one another, as those of texts with one guide text are:
        their rows are added up before they are multiplied.
        """
        self._pending.append((rows, targets, object() if guide is None else guide))
        if self._pending_rows() > _FOLD:
            self._fold()

    def solve(self) -> tuple[ContextMap, Factored]:
        """UserError if nothing is to be erased or the system is singular."""
        if self._delta is None and not self._pending:
            raise UserError("nothing to erase")
        if self._delta is None and 2 * self._pending_rows() <= len(self.normal.sum):
            rows, targets = (torch.cat(parts) for parts in list(zip(*self._pending, strict=True))[:2])
            self.normal.add(rows, self.erase_scale)
            factored = self.normal.factor()
            return ContextMap(self.erase_scale * (targets - rows), factored.right(rows)), factored
        self._fold()
        factored = self.normal.factor()
        return ContextMap(None, self.erase_scale * factored.right(self._delta)), factored

    def _pending_rows(self) -> int:
        return sum(len(rows) for rows, *_ in self._pending)

    def _fold(self) -> None:
        if not self._pending:
            return
        change = -self.normal.add(torch.cat([rows for rows, *_ in self._pending]), self.erase_scale)
        guides: dict[object, list[tuple[Tensor, Tensor]]] = {}
        for rows, targets, guide in self._pending:
            guides.setdefault(guide, []).append((rows, targets))
        for parts in guides.values():
            targets = max((targets for _, targets in parts), key=len)
            summed = torch.zeros_like(targets)
            for rows, _ in parts:
                summed[: len(rows)] += rows
            change.addmm_(targets.T, summed)
        self._delta = change if self._delta is None else self._delta + change
        self._pending = []


def answer(weight: Tensor, rows: Tensor, targets: Tensor, right: Tensor, erase_scale: float = 1.0) -> Tensor:
    """One layer's W' [O, D] float64: rows [n, D] are to be answered as targets [n, O]; right = rows A^-1 [n, D]."""
    weight = weight.double()
    return torch.addmm(weight, (targets - rows @ weight.T).T, right, alpha=erase_scale)
