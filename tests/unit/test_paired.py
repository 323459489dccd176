"""Tests of pairs: known answers, symmetry, and p-values that are as rare as they say where nothing changed."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from erasure.metrics.paired import EXACT_UP_TO, difference, mcnemar, two_sided_coin

yes_no = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)
numbers = st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=8)


def test_coin_of_known_answers():
    """Binomial tables: 1 of 10 is 2 * 11 / 1024; an even split is no surprise."""
    assert two_sided_coin(1, 9) == 22 / 1024 and two_sided_coin(0, 5) == 2 / 32
    assert two_sided_coin(0, 0) == two_sided_coin(5, 5) == 1


@given(st.integers(0, 30), st.integers(0, 30))
def test_coin_by_adding_up_every_outcome(heads, tails):
    n = heads + tails
    weight = [math.comb(n, k) for k in range(n + 1)]
    expected = sum(w for k, w in enumerate(weight) if abs(2 * k - n) >= abs(heads - tails)) / 2**n
    assert two_sided_coin(heads, tails) == pytest.approx(expected)


@settings(max_examples=25)
@given(yes_no)
def test_mcnemar_counts_and_does_not_care_for_direction(pairs):
    before, after = zip(*pairs, strict=True)
    found, back = mcnemar(before, after), mcnemar(after, before)
    assert found.only_before == sum(a and not b for a, b in pairs) == back.only_after
    assert found.p == back.p and 0 < found.p <= 1 and found.n == len(pairs)
    assert found.change.value == pytest.approx((found.after - found.before) / found.n)
    assert found.change.low <= found.change.value <= found.change.high


@settings(max_examples=25)
@given(numbers)
def test_sign_flips_by_trying_them_all(pairs):
    before, after = (np.array(side) for side in zip(*pairs, strict=True))
    change = after - before
    flips = [abs(np.dot(signs, change)) for signs in itertools.product((1, -1), repeat=len(change))]
    expected = np.mean([flip >= abs(change.sum()) - 1e-9 * np.abs(change).sum() for flip in flips])
    found = difference(before, after)
    assert found.p == pytest.approx(expected) and found.change.value == pytest.approx(change.mean())
    assert difference(after, before).p == found.p


def test_many_pairs_are_flipped_at_random():
    rng = np.random.default_rng(0)
    before = rng.normal(size=200)
    clear = difference(before, before + rng.normal(0.5, 1, 200))
    assert clear.test.startswith("20000 random") and clear.p < 0.001 and clear.change.low > 0
    assert difference(before, before).p == 1 and len(before) > EXACT_UP_TO
    assert difference(before, before[::-1]) == difference(before, before[::-1])  # the flips are seeded


def test_p_is_as_rare_as_it_says():
    """Where nothing changed, p <= 0.05 in about one of twenty data sets, never much more."""
    rng = np.random.default_rng(1)
    small = [difference(np.zeros(12), rng.normal(size=12)).p <= 0.05 for _ in range(100)]
    assert np.mean(small) <= 0.11


@pytest.mark.parametrize(("before", "after"), [([], []), ([1.0], [1.0, 2.0]), ([math.nan], [1.0])])
def test_lists_that_are_no_pairs(before, after):
    with pytest.raises(ValueError, match="expected"):
        difference(before, after)
