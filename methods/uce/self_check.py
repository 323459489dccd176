"""What an edit of the projections does to the texts that it was made of, as shares of what they were answered before.

All is in one matrix of products G = [W', W]^T [W', W], summed over the edited layers: an answer x W'^T - y W^T has the
squared norm z G z^T with z = [x, -y]. So no text is sent through any layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.edits import ContextMap
from erasure.text_states import TextStates
from methods.uce.closed_form import gram
from methods.uce.erase import Erasure, aligned


@dataclass(frozen=True)
class SelfCheck:
    """Ratios of Frobenius norms over all edited keys and values; None where there is nothing to compare with."""

    left: dict[str, float | None]  # erased text -> distance from its guide's answers now, of that before: 0 is erased
    preserved: float | None  # change of the preserved texts' answers, of those answers
    empty: float | None  # the same of the empty text's
    weights: float | None  # |W' - W| / |W|


def products_of_map(weights: Iterable[Tensor], context_map: ContextMap) -> Tensor:
    """G [2D, 2D] of weights [O, D] that become W P."""
    own = gram(*weights)
    matrix = context_map.matrix()
    both = torch.cat([matrix, torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)], dim=1)
    return both.T @ own @ both


def products_of_weights(before: Iterable[Tensor], after: Iterable[Tensor]) -> Tensor:
    """G [2D, 2D] of weights [O, D] before and after, in the same order."""
    return gram(*(torch.cat([new.double(), old.double()], dim=1) for old, new in zip(before, after, strict=True)))


def check(parts: Sequence[Erasure], texts: TextStates, kept: Tensor, products: Tensor) -> SelfCheck:
    """kept [D, D]: R^T R of the preserved texts' rows. products: G."""
    dim = len(kept)
    own = products[dim:, dim:]
    change = products[:dim, :dim] - products[:dim, dim:] - products[dim:, :dim] + own
    left = {}
    for part in parts:
        for text, guide in part.pairs:
            rows, targets = aligned(texts[text], texts[guide], part.variant)
            now = _squared(torch.cat([rows, -targets], dim=1), products)
            left[text] = _ratio(now, _squared(rows - targets, own))
    empty = texts[""].states
    return SelfCheck(
        left,
        _ratio((change * kept).sum(), (own * kept).sum()),
        _ratio(_squared(empty, change), _squared(empty, own)),
        _ratio(change.trace(), own.trace()),
    )


def _squared(rows: Tensor, products: Tensor) -> Tensor:
    return ((rows @ products) * rows).sum()


def _ratio(part: Tensor, whole: Tensor) -> float | None:
    return (part.clamp_min(0) / whole).sqrt().item() if whole > 0 else None
