"""Directions in which a weight may move without any protected prompt seeing it: the null space of their text states.

A shift w S of a key or value projection answers a row e of the conditioning with w S e. It is zero for every row of e_m, the
stacked states of the protected prompts, if the rows of S span e_m's null space (SepCE, arXiv 2402.05947, section 3.3).
The original solved for S with a symbolic-algebra package in 24-bit floats, about ten minutes for 231 x 768; this is the
same basis in float64.
"""

from dataclasses import dataclass

import numpy as np

from erasure.errors import UserError

METHODS = ("rref", "svd")
DUPLICATE = 1e-5  # rows this close, relative to the largest entry, are one row: start tokens, shared beginnings
ZERO = 1e-9  # a pivot or singular value at most this, relative to the largest entry or value, is zero
RESIDUAL = 1e-8  # largest |e_m S^T| of an exact basis
_PANEL = 48  # columns eliminated at once; the columns right of them follow in one matrix product
_FEW = 100 / 768  # of all dimensions: with fewer left, erasing has been seen to fail


@dataclass(frozen=True)
class Capacity:
    """How much of the conditioning's space protection takes, and what is left for the concept."""

    dim: int  # D, of a row of the conditioning
    rank: int  # dimensions that the protected prompts take
    length: int = 77  # tokens of a prompt
    exact: bool = True  # False if only the prompts' strongest directions are protected

    @property
    def free(self) -> int:
        """n_b, rows of the basis."""
        return self.dim - self.rank

    @property
    def more_prompts(self) -> int:
        """How many further prompts could be protected too; each takes all its rows but the start token's."""
        return max(self.free - 1, 0) // max(self.length - 1, 1)

    @property
    def few(self) -> bool:
        """Whether erasing may fail for want of directions."""
        return self.free < _FEW * self.dim

    def __str__(self) -> str:
        taken = (
            f"the protected prompts take {self.rank} of {self.dim} dimensions of the conditioning, {self.free} are left"
        )
        if not self.exact:
            return f"{taken} (only their strongest directions are protected)"
        more = f"room to protect {self.more_prompts} more of {self.length} tokens"
        return f"{taken}: {more}" + ("; so few may not be enough to erase with" if self.few else "")


def nullspace_basis(em: np.ndarray, method: str = "rref", tolerance: float = 0.0) -> np.ndarray:
    """Unit vectors [n_b, D] float64 that span the null space of `em` [rows, D].

    rref: one vector per free column of the reduced row echelon form, in their order, as published; not orthogonal. svd: an
    orthonormal basis. tolerance: directions of `em` whose singular value is at most this share of the largest are not
    protected (0: all are). UserError if nothing is left, if `em` holds NaN, or if it is too near to a lower rank for rref.
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    if not 0 <= tolerance < 1:
        raise UserError(f"a tolerance of {tolerance:g} is no share of the largest singular value: give 0 to 1")
    a = _distinct(em)
    dim = a.shape[1]
    if method == "rref" and tolerance == 0:
        basis = _echelon_basis(a)
        if (residual := np.abs(a @ basis.T).max(initial=0.0)) > RESIDUAL * max(1.0, np.abs(a).max()):
            raise UserError(f"the protected prompts are too alike to be told apart (residual {residual:.1e}): use svd")
    else:
        values, directions = _svd(a)
        protected = directions[: _rank(values, tolerance)]
        basis = directions[len(protected) :] if method == "svd" else _echelon_basis(protected)
    if not len(basis):
        raise UserError(
            f"the protected prompts take all {dim} dimensions of the conditioning, so that nothing is left to erase with: "
            "protect fewer of them, or only their strongest directions (a tolerance above 0)"
        )
    return np.ascontiguousarray(basis)


def rank(em: np.ndarray, tolerance: float = 0.0) -> int:
    """Dimensions that the rows of `em` take, those with a singular value of at most `tolerance` of the largest left out."""
    return _rank(_svd(_distinct(em), directions=False)[0], tolerance)


def capacity(em: np.ndarray, length: int = 77, tolerance: float = 0.0) -> Capacity:
    """What protecting the prompts of `em`, of `length` tokens each, leaves; see `Capacity`."""
    return Capacity(em.shape[1], rank(em, tolerance), length, exact=tolerance == 0)


def leak(em: np.ndarray, basis: np.ndarray) -> float:
    """How much of the protected rows still passes: the largest row of em S^T relative to the largest row of em."""
    em = np.asarray(em, np.float64)
    return float(np.linalg.norm(em @ basis.T, axis=1).max() / np.linalg.norm(em, axis=1).max())


# ---- parts ---------------------------------------------------------------------------------------------------------


def _distinct(em: np.ndarray) -> np.ndarray:
    """Rows that equal no earlier one, float64: the last bit of a start token is not to become a pivot."""
    a = np.asarray(em, np.float64)
    if a.ndim != 2 or not a.size:
        raise ValueError(f"expected a matrix of text states, got shape {a.shape}")
    if not np.isfinite(a).all():
        raise UserError("the text states of the protected prompts hold NaN or infinite values")
    within = DUPLICATE * np.abs(a).max()
    squares = np.einsum("ij,ij->i", a, a)
    distances = squares[:, None] + squares - 2 * a @ a.T
    near = np.tril(distances <= a.shape[1] * within**2 + 1e-12 * squares.max(), -1)
    keep = np.ones(len(a), bool)
    for row in np.flatnonzero(near.any(1)):  # Euclidean distances only tell which rows to compare
        keep[row] = np.abs(a[near[row] & keep] - a[row]).max(1, initial=0.0).min(initial=np.inf) > within
    return a[keep]


def _svd(a: np.ndarray, directions: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    """Singular values, and all D right singular vectors as rows."""
    if not directions:
        return np.linalg.svd(a, compute_uv=False), None
    if len(a) > a.shape[1]:
        a = np.linalg.qr(a, mode="r")  # the same values and vectors, and no large factor that nobody needs
    _, values, vectors = np.linalg.svd(a)
    return values, vectors


def _rank(values: np.ndarray, tolerance: float) -> int:
    return int((values > max(tolerance, ZERO) * values.max(initial=0.0)).sum())


def _echelon_basis(a: np.ndarray) -> np.ndarray:
    """Null space of `a` from its reduced row echelon form: 1 at one free column, minus that column's entries at the pivots."""
    rows, pivots = _pivots(a)
    free = np.setdiff1d(np.arange(a.shape[1]), pivots)
    basis = np.zeros((len(free), a.shape[1]))
    basis[np.arange(len(free)), free] = 1
    if len(pivots) and len(free):
        # the entries of the reduced form, solved from the rows themselves: elimination has only chosen among them
        basis[:, pivots] = -np.linalg.solve(a[np.ix_(rows, pivots)], a[np.ix_(rows, free)]).T
    return basis / np.linalg.norm(basis, axis=1, keepdims=True)


def _pivots(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(rows, columns) of the pivots by elimination from left to right, the largest entry of a column first."""
    a, zero = a.copy(), ZERO * np.abs(a).max(initial=0.0)
    order, columns = np.arange(len(a)), []
    for start in range(0, a.shape[1], _PANEL):
        first, panel = len(columns), a[:, start : start + _PANEL].copy()
        for j in range(panel.shape[1]):
            done = len(columns)
            if done == len(a):
                break
            top = done + int(np.abs(panel[done:, j]).argmax())
            if abs(panel[top, j]) <= zero:
                continue
            for matrix in (panel, a, order):
                matrix[[done, top]] = matrix[[top, done]]
            factors = panel[done + 1 :, j] / panel[done, j]
            panel[done + 1 :, j + 1 :] -= np.outer(factors, panel[done, j + 1 :])
            panel[done + 1 :, j] = factors  # kept where zeros would be, for the columns on the right
            columns.append(start + j)
        last, rest = len(columns), slice(start + _PANEL, None)
        if last == first:
            continue
        factors = panel[first:, [c - start for c in columns[first:]]]
        lower = np.tril(factors[: last - first], -1) + np.eye(last - first)
        a[first:last, rest] = np.linalg.solve(lower, a[first:last, rest])
        a[last:, rest] -= factors[last - first :] @ a[first:last, rest]
    return order[: len(columns)], np.array(columns, int)
