"""Null spaces of text states: what a basis promises, for matrices of any rank."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.sepce import nullspace
from methods.sepce.nullspace import Capacity, capacity, leak, nullspace_basis, rank

shapes = st.tuples(st.integers(0, 9999), st.integers(1, 130), st.integers(2, 120))
methods = st.sampled_from(nullspace.METHODS)


def states(seed, rows, dim, of_rank=None, scale=1.0):
    """Random rows whose rank is at most `of_rank`, some of them given twice."""
    random = np.random.default_rng(seed)
    of_rank = min(rows, dim - 1) if of_rank is None else of_rank
    em = random.standard_normal((rows, of_rank)) @ random.standard_normal((of_rank, dim))
    em[random.random(rows) < 0.2] = em[0]
    return scale * em


def plain_echelon_basis(a):
    """Gauss and Jordan, one pivot at a time."""
    a, pivots = a.copy(), []
    for column in range(a.shape[1]):
        row = len(pivots)
        if row == len(a):
            break
        top = row + np.abs(a[row:, column]).argmax()
        if abs(a[top, column]) <= 1e-9 * np.abs(a).max():
            continue
        a[[row, top]] = a[[top, row]]
        a[row] /= a[row, column]
        others = np.arange(len(a)) != row
        a[others] -= np.outer(a[others, column], a[row])
        pivots.append(column)
    basis = []
    for column in sorted(set(range(a.shape[1])) - set(pivots)):
        vector = np.zeros(a.shape[1])
        vector[column] = 1
        vector[pivots] = -a[: len(pivots), column]
        basis.append(vector / np.linalg.norm(vector))
    return np.array(basis)


@given(shapes, methods, st.floats(1e-3, 1e3))
@settings(max_examples=80, deadline=None)
def test_a_basis_is_unseen_by_every_row_and_complete(shape, method, scale):
    em = states(*shape, scale=scale)
    basis = nullspace_basis(em, method)
    assert basis.dtype == np.float64 and len(basis) == em.shape[1] - rank(em) == np.linalg.matrix_rank(basis)
    np.testing.assert_allclose(np.linalg.norm(basis, axis=1), 1)
    assert np.abs(em @ basis.T).max() < 1e-8 * max(1, np.abs(em).max())
    assert leak(em, basis) < 1e-8


@given(st.integers(0, 9999), st.integers(1, 40), st.integers(2, 30), st.integers(1, 29))
@settings(max_examples=60, deadline=None)
def test_rref_is_the_textbook_elimination(seed, rows, dim, of_rank):
    em = np.round(states(seed, rows, dim, min(of_rank, dim - 1)), 3)
    em[:, :: max(2, seed % 5)] = 0  # columns without a pivot between those that have one
    np.testing.assert_allclose(nullspace_basis(em), plain_echelon_basis(em), atol=1e-7)


def test_pivots_left_and_right_of_a_panel(monkeypatch):
    em = states(5, 60, 100, of_rank=40)
    em[:, 3:30] = em[:, :1] * np.arange(3, 30)
    whole = nullspace_basis(em)
    for panel in (1, 2, 7, 100):
        monkeypatch.setattr(nullspace, "_PANEL", panel)
        np.testing.assert_allclose(nullspace_basis(em), whole, atol=1e-10)


@given(shapes, methods)
@settings(max_examples=30, deadline=None)
def test_rows_given_again_change_nothing(shape, method):
    em = states(*shape)
    again = np.concatenate([em, em[::-1]])
    np.testing.assert_array_equal(nullspace_basis(again, method), nullspace_basis(em, method))


def test_the_last_bit_of_a_start_token_is_no_direction():
    em = states(1, 20, 60, of_rank=20).astype(np.float32)
    em[10] = em[0]
    exact = nullspace_basis(em)
    em[10] = np.nextafter(em[0], np.inf)
    np.testing.assert_array_equal(nullspace_basis(em), exact)


@given(st.integers(0, 9999), st.floats(1e-4, 0.9), methods)
@settings(max_examples=30, deadline=None)
def test_a_tolerance_protects_the_strong_directions_only(seed, tolerance, method):
    random = np.random.default_rng(seed)
    left, _ = np.linalg.qr(random.standard_normal((50, 30)))
    right, _ = np.linalg.qr(random.standard_normal((30, 30)))
    values = np.geomspace(1, 1e-4, 30)
    em = left * values @ right.T
    protected = int((values > tolerance * (1 + 1e-9)).sum())
    basis = nullspace_basis(em, method, tolerance * (1 + 1e-9))
    assert len(basis) == 30 - protected and rank(em, tolerance * (1 + 1e-9)) == protected
    assert np.abs(right[:, :protected].T @ basis.T).max() < 1e-7
    assert np.abs(em @ basis.T).max() <= values[protected] + 1e-9
    if method == "svd":
        assert 0 < leak(em, basis) <= values[protected] / np.linalg.norm(em, axis=1).max() + 1e-9


@pytest.mark.parametrize("prompts, left", [(1, 691), (2, 615), (3, 539), (4, 463), (5, 387), (8, 159), (10, 7)])
def test_capacity_of_stable_diffusion(prompts, left):
    """The paper's counts: prompts of 77 tokens share their first."""
    em = np.random.default_rng(prompts).standard_normal((77 * prompts, 768)).astype(np.float32)
    em[::77] = em[0]
    found = capacity(em)
    assert found == Capacity(768, 768 - left) and found.free == left and found.more_prompts == 10 - prompts
    assert found.few == (left < 100)
    assert f"{left} are left" in str(found) and f"{10 - prompts} more of 77 tokens" in str(found)


def test_what_cannot_be_decoupled_is_said():
    full = np.random.default_rng(0).standard_normal((12, 8))
    for method in nullspace.METHODS:
        with pytest.raises(UserError, match="all 8 dimensions .* protect fewer"):
            nullspace_basis(full, method)
        assert len(nullspace_basis(full, method, tolerance=0.5)) > 0
    with pytest.raises(UserError, match="NaN"):
        nullspace_basis(np.full((2, 4), np.nan))
    with pytest.raises(UserError, match="tolerance of 1"):
        nullspace_basis(full, tolerance=1)
