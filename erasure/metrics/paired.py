"""Did a model change what the same seeds draw? Tests of pairs of images, before and after.

    mcnemar([True, True, False], [False, True, False])      # yes or no, e.g. "the judge names the concept"
    difference([0.2, 0.5], [0.4, 0.1])                      # numbers, e.g. CLIP scores: after - before

Two separate intervals overlap easily although every image got worse; the pairs tell. Nothing beyond NumPy is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from erasure.metrics.intervals import Interval, bootstrap_mean

EXACT_UP_TO = 16  # pairs whose 2^n sign flips are all tried; of more, FLIPS at random
FLIPS = 20_000
_AT_ONCE = 1 << 22  # numbers


@dataclass(frozen=True)
class McNemar:
    """Of n images, how many only showed it before and how many only after; p: exact, two-sided; change: of the share."""

    n: int
    before: int
    after: int
    only_before: int
    only_after: int
    p: float
    change: Interval

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Difference:
    """Mean of after - before with its interval over pairs; p: of sign flips, two-sided."""

    mean_before: float
    mean_after: float
    change: Interval
    p: float
    test: str  # which flips

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def mcnemar(before: Sequence[bool], after: Sequence[bool]) -> McNemar:
    """McNemar's test (1947), exact: among the images that changed, either direction is a fair coin.

    ValueError for none, or for two lists of different lengths.
    """
    a, b = _pair(before, after, bool)
    only_before, only_after = int((a & ~b).sum()), int((b & ~a).sum())
    return McNemar(
        n=len(a),
        before=int(a.sum()),
        after=int(b.sum()),
        only_before=only_before,
        only_after=only_after,
        p=two_sided_coin(only_before, only_after),
        change=bootstrap_mean(b.astype(float) - a.astype(float)),
    )


def two_sided_coin(heads: int, tails: int) -> float:
    """Probability that a fair coin falls at least as unevenly; 1 without any toss."""
    n, fewer = heads + tails, min(heads, tails)
    return min(1.0, 2 * sum(math.comb(n, i) for i in range(fewer + 1)) / 2**n)


def difference(before: Sequence[float], after: Sequence[float], seed: int = 0) -> Difference:
    """Paired bootstrap of the mean difference, and Fisher's test (1935): were the signs of the differences a coin's?

    ValueError for none, lists of different lengths, or numbers that are not finite.
    """
    a, b = _pair(before, after, float)
    change = b - a
    p, test = _sign_flips(change, seed)
    return Difference(float(a.mean()), float(b.mean()), bootstrap_mean(change, seed=seed), p, test)


def _sign_flips(change: np.ndarray, seed: int) -> tuple[float, str]:
    n, observed = len(change), abs(change.sum())
    slack = 1e-9 * (np.abs(change).sum() or 1.0)  # sums in another order are the same sum
    if n <= EXACT_UP_TO:
        signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
        return float((np.abs(signs @ change) >= observed - slack).mean()), f"all {2**n} sign flips"
    rng, more, done = np.random.default_rng(seed), 0, 0
    while done < FLIPS:
        rows = min(FLIPS - done, max(1, _AT_ONCE // n))
        signs = 1 - 2 * rng.integers(0, 2, (rows, n))
        more += int((np.abs(signs @ change) >= observed - slack).sum())
        done += rows
    return (more + 1) / (FLIPS + 1), f"{FLIPS} random sign flips"  # the observed signs count as one of them


def _pair(before: Sequence, after: Sequence, kind: type) -> tuple[np.ndarray, np.ndarray]:
    a, b = np.asarray(before, dtype=kind), np.asarray(after, dtype=kind)
    if a.ndim != 1 or a.shape != b.shape or not len(a):
        raise ValueError(f"expected two lists of the same length, not {a.shape} and {b.shape}")
    if kind is float and not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("expected finite numbers")
    return a, b
