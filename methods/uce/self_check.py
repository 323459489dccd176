"""What an edit of the projections does to the texts that it was made of, as shares of what they were answered before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from erasure.text_states import TextStates
from methods.uce.erase import Erasure, aligned


@dataclass(frozen=True)
class SelfCheck:
    """All are ratios of Frobenius norms over every edited layer's keys and values; None where there is nothing to compare."""

    left: dict[str, float | None]  # erased text -> distance from its guide's answers now, of that before: 0 is erased
    preserved: float | None  # change of the preserved texts' answers, of those answers
    empty: float | None  # the same of the empty text
    weights: float  # |W' - W| / |W|


def check(
    parts: Sequence[Erasure], texts: TextStates, gram: Tensor, before: Sequence[Tensor], after: Sequence[Tensor]
) -> SelfCheck:
    """gram [D, D]: of the preserved texts' rows. before, after: weights [O, D] of every edited layer, in the same order."""
    old, new = (torch.cat([weight.double() for weight in weights]) for weights in (before, after))
    change = new - old
    pairs = {text: (guide, part.variant) for part in parts for text, guide in part.pairs}
    left = {}
    for text, (guide, variant) in pairs.items():
        rows, targets = aligned(texts[text], texts[guide], variant)
        wanted = targets @ old.T
        left[text] = _ratio(torch.linalg.norm(rows @ new.T - wanted), torch.linalg.norm(rows @ old.T - wanted))
    empty = texts[""].states
    return SelfCheck(
        left,
        _ratio(_norm(change, gram), _norm(old, gram)),
        _ratio(torch.linalg.norm(empty @ change.T), torch.linalg.norm(empty @ old.T)),
        torch.linalg.norm(change).item() / torch.linalg.norm(old).item(),
    )


def _norm(weight: Tensor, gram: Tensor) -> Tensor:
    """|R W^T| of rows R of which only R^T R is known."""
    return ((weight @ gram) * weight).sum().clamp_min(0).sqrt()


def _ratio(part: Tensor, whole: Tensor) -> float | None:
    return (part / whole).item() if whole > 0 else None
