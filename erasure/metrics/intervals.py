"""Confidence intervals: a score without one invites reading noise as progress."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist

import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate from `n` observations with its confidence interval `low` ... `high`."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int]:
        return asdict(self)

    def percent(self) -> str:
        """A proportion for a table: `'93 % [81, 98]'`."""
        return f"{100 * self.value:.0f} % [{100 * self.low:.0f}, {100 * self.high:.0f}]"


def wilson(successes: int, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927).

    Unlike value ± 1.96 standard errors it stays within 0 ... 1 and keeps its width at 0 and n successes, where erased
    concepts usually are. Raises ValueError unless 0 <= successes <= n, n > 0 and 0 < level < 1.
    """
    _check_level(level)
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}: expected 0 <= successes <= n and n > 0")
    z2 = NormalDist().inv_cdf((1 + level) / 2) ** 2
    share = successes / n
    centre = (successes + z2 / 2) / (n + z2)
    half = math.sqrt(z2) / (n + z2) * math.sqrt(n * share * (1 - share) + z2 / 4)
    # min and max with the estimate: rounding must not leave it outside its own interval at 0 and n successes
    return Interval(share, max(0.0, min(share, centre - half)), min(1.0, max(share, centre + half)), n)


def bootstrap_mean(values: Sequence[float], level: float = LEVEL, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean (Efron 1979); the same values and seed give the same interval.

    Raises ValueError for no values, values that are not finite, or a level outside 0 ... 1.
    """
    _check_level(level)
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or data.size == 0 or not np.isfinite(data).all():
        raise ValueError("expected a non-empty list of finite numbers")
    rng = np.random.default_rng(seed)
    # one resample at a time, so that memory does not grow with the number of resamples
    means = [data[rng.integers(0, data.size, data.size)].mean() for _ in range(resamples)]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    value = float(data.mean())
    return Interval(value, min(value, float(low)), max(value, float(high)), data.size)


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"level {level}: expected a number between 0 and 1")
