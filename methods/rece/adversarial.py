"""The embedding that brings an erased concept back: RECE's adversarial embedding, in float64 (arXiv 2407.12383, Eq. 4-5).

Of a concept's embedding c, edited projections W_l and original ones W_l^o, with G = sum W_l^T W_l and H = sum W_l^T W_l^o,

    c' = argmin  sum_l ||W_l c' - W_l^o c||^2 + R(c')

for one of five penalties R of weight lambda (`--emb_computing`, `--reg_item`, `--regular_scale`). Each of the 77 rows of an
embedding is solved for on its own; what G and H are sums over does not matter here.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from erasure.errors import UserError
from methods.uce.closed_form import RESIDUAL_LIMIT, gram


class Penalty(NamedTuple):
    """R as terms of lambda: which of them a variant has."""

    ridge: bool  # ||c' - pull||^2
    answers: bool  # sum_l ||W_l (c' - c)||^2
    pull: str | None  # what the ridge pulls to: the concept, the target, or zero


PENALTIES = {
    ("close_regzero", None): Penalty(True, False, None),
    ("close_standardreg", None): Penalty(True, False, "target"),
    ("close_surrogatereg", "1st"): Penalty(False, True, None),
    ("close_surrogatereg", "2nd"): Penalty(True, False, "concept"),
    ("close_surrogatereg", "both"): Penalty(True, True, "concept"),
}


def sums(weights: Mapping[str, Tensor], originals: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(G, H) [D, D] float64 of the projections [O, D] that `weights` holds, now and as they were in the beginning."""
    dim = next(iter(weights.values())).shape[1]
    cross = torch.zeros(dim, dim, dtype=torch.float64)
    for name, weight in weights.items():
        cross.addmm_(weight.double().T, originals[name].double())
    return gram(*weights.values()), cross


def penalty(emb_computing: str, reg_item: str = "1st", with_target: bool = False) -> Penalty:
    """The R of the published flags. close_standardreg without a target is, as published, close_surrogatereg of both terms."""
    if emb_computing == "close_standardreg" and not with_target:
        emb_computing, reg_item = "close_surrogatereg", "both"
    return PENALTIES[emb_computing, reg_item if emb_computing == "close_surrogatereg" else None]


def adversarial_embedding(
    G: Tensor,
    H: Tensor,
    c: Tensor,
    emb_computing: str = "close_regzero",
    regular_scale: float = 0.1,
    reg_item: str = "1st",
    target: Tensor | None = None,
) -> Tensor:
    """c' [..., D] float64 of embeddings c [..., D], row by row.

    G, H: `sums`. target [..., D]: where close_standardreg pulls to. UserError if G is singular and nothing regularises it,
    and for values that are not finite.
    """
    kind = penalty(emb_computing, reg_item, target is not None)
    rows, lamb = c.double(), regular_scale
    system = G * (1 + lamb) if kind.answers else G.clone()
    if kind.ridge:
        system.diagonal().add_(lamb)
    wanted = rows @ H.T
    if kind.answers:
        wanted = wanted + lamb * (rows @ G)
    if kind.pull:
        wanted = wanted + lamb * (rows if kind.pull == "concept" else target.double())
    return _solved(system, wanted.reshape(-1, len(G))).reshape(c.shape)


def _solved(system: Tensor, wanted: Tensor) -> Tensor:
    """wanted [n, D] system^-1."""
    if not (torch.isfinite(system).all() and torch.isfinite(wanted).all()):
        raise UserError("the adversarial embedding has no solution: weights or embeddings hold NaN or infinities")
    factor, failed = torch.linalg.cholesky_ex(system)
    solved = torch.cholesky_solve(wanted.T.contiguous(), factor).T
    residual = torch.linalg.norm(solved @ system - wanted) / torch.linalg.norm(wanted).clamp_min(1e-300)
    if failed.item() or not residual.item() <= RESIDUAL_LIMIT:
        raise UserError(
            "the adversarial embedding has no unique solution: the edited weights' Gram matrix is singular, and "
            "--reg_item 1st adds nothing to its diagonal; choose --reg_item 2nd or both, or close_regzero, "
            "with --regular_scale above 0"
        )
    return solved
