"""FID (Heusel et al. 2017) and KID (Bińkowski et al. 2018) between two sets of features, in float64.

    frechet_distance(statistics(x), statistics(y))      # features [N, D]
    kernel_distance(x, y)                               # as clean-fid: 100 subsets of up to 1000; not multiplied by anything

Values are clean-fid's; the trace of the root is had without scipy's sqrtm, whose arguments change from release to release.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from erasure.errors import UserError
from erasure.metrics.intervals import Interval
from erasure.runs import atomic_path

SENSIBLE = {"FID": 10_000, "KID": 1_000}
"""Images of a set below which a score is mostly bias (FID's falls with 1/N) or spread (KID's)."""
DEFINITIONS = {
    "FID": "|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) of Inception features",
    "KID": "unbiased MMD^2, kernel (x.y / D + 1)^3, mean of 100 subsets of up to 1000; tables print it times 100 or 1000",
}
INTERVALS = {
    "FID": "95 %, delete-a-group jackknife, 10 groups: the spread, not the bias by N",
    "KID": "95 %, spread over 10 disjoint blocks",
}
GROUPS = 10
_T = 2.2622  # Student's t, 97.5 %, GROUPS - 1 degrees of freedom
SUBSETS, SUBSET_SIZE = 100, 1000


@dataclass(frozen=True)
class Statistics:
    """Mean [D] and covariance [D, D] of `n` features (0: not known); root [r, D] with root.T @ root = covariance."""

    mean: Tensor
    root: Tensor
    n: int

    @property
    def covariance(self) -> Tensor:
        return self.root.T @ self.root

    def to(self, device: str) -> Statistics:
        return Statistics(self.mean.to(device), self.root.to(device), self.n)


def statistics(features: Tensor) -> Statistics:
    """Of features [N, D]; the covariance has N - 1 below the line. ValueError for fewer than two."""
    if len(features) < 2:
        raise ValueError("a covariance needs at least two features")
    x = features.double()
    mean = x.mean(dim=0)
    root = (x - mean) / math.sqrt(len(x) - 1)
    if len(root) > root.shape[1]:  # the same product from fewer rows
        root = torch.linalg.qr(root, mode="r").R
    return Statistics(mean, root, len(x))


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2).

    S1 S2 has the eigenvalues of (A B^T)(A B^T)^T for S1 = A^T A and S2 = B^T B, so that the last trace is the sum of the
    singular values of A B^T: exact also where a covariance is singular, which needs an epsilon otherwise.
    """
    traces = a.root.square().sum() + b.root.square().sum() - 2 * torch.linalg.svdvals(a.root @ b.root.T).sum()
    return float((a.mean - b.mean).square().sum() + traces)


def kernel_distance(
    x: Tensor,
    y: Tensor,
    subsets: int = SUBSETS,
    subset_size: int = SUBSET_SIZE,
    seed: int = 0,
    tick: Callable[[], None] = lambda: None,
) -> float:
    """Unbiased MMD^2 with the kernel (x.y / D + 1)^3, mean over random subsets as clean-fid draws them.

    x: the first folder's features [N1, D], y: the second's; numpy's legacy generator draws of y first.
    """
    x, y = x.double(), y.double()
    size, draws = min(len(x), len(y), subset_size), np.random.RandomState(seed)
    if len(x) == len(y) == size:
        return squared_mmd(x, y)  # every subset is the whole
    total = 0.0
    for _ in range(subsets):
        of_y, of_x = (torch.from_numpy(draws.choice(len(s), size, replace=False)).to(s.device) for s in (y, x))
        total += squared_mmd(x[of_x], y[of_y])
        tick()
    return total / subsets


def squared_mmd(x: Tensor, y: Tensor) -> float:
    """Unbiased MMD^2 of two sets of one size [m, D], float64. ValueError for other sizes and for fewer than two."""
    m, d = x.shape
    if len(y) != m or m < 2:
        raise ValueError(f"expected two sets of one size of at least two, not {m} and {len(y)}")
    within = (x @ x.T / d + 1) ** 3 + (y @ y.T / d + 1) ** 3
    across = (x @ y.T / d + 1) ** 3
    # clean-fid's, which keeps the diagonal of `across`
    return float((within.sum() - within.diagonal().sum()) / (m * (m - 1)) - 2 * across.sum() / m**2)


# ---- intervals -----------------------------------------------------------------------------------------------------


def frechet_interval(
    x: Tensor, y: Tensor | Statistics, value: float, tick: Callable[[], None] = lambda: None
) -> Interval:
    """Delete-a-group jackknife over GROUPS groups of either set: 95 %; of the spread only, not of the bias by N."""

    def without(group: int) -> float:
        sides = [statistics(_but(s, group)) if isinstance(s, Tensor) else s for s in (x, y)]
        tick()
        return frechet_distance(*sides)

    left_out = np.array([without(group) for group in range(GROUPS)])
    error = math.sqrt((GROUPS - 1) / GROUPS * ((left_out - left_out.mean()) ** 2).sum())
    return Interval(value, value - _T * error, value + _T * error, len(x))


def kernel_interval(x: Tensor, y: Tensor, value: float) -> Interval:
    """From the spread of MMD^2 over GROUPS disjoint blocks (Zaremba et al. 2013): 95 %, rather too wide than too narrow."""
    x, y = (s[: len(s) // GROUPS * GROUPS].double() for s in (x, y))
    size = min(len(x), len(y)) // GROUPS
    blocks = [squared_mmd(x[g::GROUPS][:size], y[g::GROUPS][:size]) for g in range(GROUPS)]
    error = float(np.std(blocks, ddof=1)) / math.sqrt(GROUPS)
    return Interval(value, value - _T * error, value + _T * error, min(len(x), len(y)))


def enough_for_interval(*sizes: int) -> bool:
    """Whether every group has two images."""
    return min(sizes) >= 2 * GROUPS


def _but(features: Tensor, group: int) -> Tensor:
    """All but every GROUPS-th row."""
    keep = torch.arange(len(features)) % GROUPS != group
    return features[keep.to(features.device)]


# ---- files of statistics -------------------------------------------------------------------------------------------


def write_statistics(path: str | os.PathLike, found: Statistics) -> None:
    """mu, sigma and n as .npz, as other FID programs read them."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, mu=found.mean.cpu().numpy(), sigma=found.covariance.cpu().numpy(), n=found.n)


def read_statistics(path: str | os.PathLike) -> Statistics:
    """Of a file with mu and sigma (and n). UserError for any other."""
    try:
        with np.load(Path(path), allow_pickle=False) as file:
            mean, covariance = (torch.from_numpy(np.asarray(file[name], np.float64)) for name in ("mu", "sigma"))
            n = int(file["n"]) if "n" in file else 0
    except (ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} is no file of FID statistics (arrays mu and sigma): {error}") from None
    if covariance.shape != (*mean.shape, *mean.shape) or not (mean.isfinite().all() and covariance.isfinite().all()):
        raise UserError(f"{path}: sigma is {list(covariance.shape)} and mu {list(mean.shape)}, or not all are numbers")
    values, vectors = torch.linalg.eigh(covariance)
    return Statistics(mean, values.clamp_min(0).sqrt()[:, None] * vectors.T, n)
