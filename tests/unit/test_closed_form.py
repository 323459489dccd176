"""The closed form against its definition: a plain least-squares solver of the same objective, layer by layer."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.errors import UserError
from methods.uce import closed_form
from methods.uce.closed_form import Factored, NormalMatrix, SharedMap, answer, gram

dims = st.integers(2, 24)
rows = st.integers(1, 12)
seeds = st.integers(0, 2**16)
scales = st.floats(0.05, 5)


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def least_squares(weight, parts, lamb):
    """argmin over W' of sum scale ||R W'^T - V||^2 + lamb ||W' - W||^2, by a QR of all rows stacked."""
    a = torch.cat([scale**0.5 * r for r, _, scale in parts] + [lamb**0.5 * torch.eye(weight.shape[1]).double()])
    b = torch.cat([scale**0.5 * v for _, v, scale in parts] + [lamb**0.5 * weight.T])
    return torch.linalg.lstsq(a, b).solution.T


def relative(found, wanted):
    return (torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted)).item()


@given(dims, rows, rows, seeds, scales, scales, scales)
@settings(max_examples=60, deadline=None)
def test_the_shared_map_minimises_the_papers_objective(dim, edited, kept, seed, lamb, erase_scale, preserve_scale):
    old, new, stay, weight = (draw(seed + i, n, dim) for i, n in enumerate((edited, edited, kept, 7)))
    gathered = SharedMap(dim, lamb, erase_scale)
    gathered.erase(old, new)
    gathered.normal.add(stay, preserve_scale)
    found = gathered.solve()[0].applied(weight)
    parts = [(old, new @ weight.T, erase_scale), (stay, stay @ weight.T, preserve_scale)]
    assert relative(found, least_squares(weight, parts, lamb)) < 1e-9


@given(dims, rows, seeds, scales, scales)
@settings(max_examples=40, deadline=None)
def test_one_layers_answer_minimises_it_for_any_values(dim, edited, seed, lamb, erase_scale):
    old, values, weight = draw(seed, edited, dim), draw(seed + 1, edited, 5), draw(seed + 2, 5, dim)
    normal = NormalMatrix(dim, lamb)
    normal.add(old, erase_scale)
    found = answer(weight, old, values, normal.factor().right(old), erase_scale)
    assert relative(found, least_squares(weight, [(old, values, erase_scale)], lamb)) < 1e-9


@given(st.integers(0, 30), st.integers(1, 40), seeds)
@settings(max_examples=30, deadline=None)
def test_gram_is_the_product(count, dim, seed):
    matrix = draw(seed, count, dim)
    torch.testing.assert_close(gram(matrix), matrix.T @ matrix)


@given(st.integers(1, 6), st.integers(1, 3), seeds, st.booleans())
@settings(max_examples=30, deadline=None)
def test_sums_of_many_rows_equal_the_factors_of_few(texts, guides, seed, share):
    """Whether rows are kept or summed up, and whether sums share a guide, shows in the last digits only."""
    dim, gathered = 64, {}
    answers = [draw(seed + 100 + g, 9, dim) for g in range(guides)]
    for name, fold in (("rows", 10**6), ("sums", 5)):
        gathered[name] = SharedMap(dim, 0.5)
        limit, closed_form._FOLD = closed_form._FOLD, fold
        try:
            for i in range(texts):
                guide = i % guides
                old = draw(seed + i, 3 + i, dim)
                key = guide if share and name == "sums" else None
                gathered[name].erase(old, answers[guide][: len(old)], key)
        finally:
            closed_form._FOLD = limit
    found = [g.solve()[0] for g in gathered.values()]
    assert relative(found[1].matrix(), found[0].matrix()) < 1e-10


def test_few_rows_stay_factors_and_many_become_one_matrix():
    for count, left in ((8, True), (9, False)):
        gathered = SharedMap(16, 0.5)
        gathered.erase(draw(0, count, 16), draw(1, count, 16))
        assert (gathered.solve()[0].left is not None) == left


def test_nothing_changes_where_a_text_is_its_own_guide():
    old, weight = draw(0, 5, 12), draw(1, 4, 12)
    gathered = SharedMap(12, 0.5)
    gathered.erase(old, old)
    assert torch.equal(gathered.solve()[0].applied(weight), weight)


def test_a_singular_system_is_refused():
    gathered = SharedMap(12, 0.0)
    gathered.erase(draw(0, 3, 12), draw(1, 3, 12))
    with pytest.raises(UserError, match="lamb"):
        gathered.solve()
    with pytest.raises(UserError, match="NaN"):
        normal = NormalMatrix(4, 0.5)
        normal.add(torch.full((1, 4), torch.nan, dtype=torch.float64), 1.0)
        normal.factor()
    with pytest.raises(UserError, match="nothing to erase"):
        SharedMap(4, 0.5).solve()


def test_a_solution_that_does_not_solve_is_refused():
    """What rounding leaves of a factor may exist and still solve nothing."""
    normal = NormalMatrix(6, 0.5)
    normal.add(draw(0, 9, 6), 1.0)
    good = normal.factor()
    with pytest.raises(UserError, match="singular"):
        Factored(good.matrix, good.factor + 0.1).right(draw(1, 2, 6))


@given(st.lists(st.floats(1e-3, 1e4), min_size=2, max_size=12), seeds)
@settings(max_examples=40, deadline=None)
def test_the_condition_number_is_estimated_from_below(eigenvalues, seed):
    dim = len(eigenvalues)
    basis = torch.linalg.qr(draw(seed, dim, dim)).Q
    normal = NormalMatrix(dim, 0.0)
    normal.sum = basis @ torch.diag(torch.tensor(eigenvalues).double()) @ basis.T
    estimate, true = normal.factor().condition(), max(eigenvalues) / min(eigenvalues)
    assert 0.3 * true <= estimate <= 1.001 * true
