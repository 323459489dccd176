"""Intervals hold their estimate, stay in range, narrow with more data and cover the truth as often as they claim."""

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from erasure.metrics.intervals import Interval, bootstrap_mean, wilson

counts = st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
levels = st.floats(0.5, 0.999)


@given(counts, levels)
def test_wilson_holds_the_share_and_stays_a_proportion(count, level):
    k, n = count
    interval = wilson(k, n, level)
    assert interval.value == k / n and interval.n == n
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.low < interval.high


@given(counts, levels)
def test_wilson_bounds_solve_the_score_equation(count, level):
    """At a bound p the observed share is exactly z standard errors away: |k/n - p| = z sqrt(p (1-p) / n)."""
    k, n = count
    interval = wilson(k, n, level)
    z = NormalDist().inv_cdf((1 + level) / 2)
    for bound in (interval.low, interval.high):
        assert abs(interval.value - bound) == pytest.approx(z * math.sqrt(bound * (1 - bound) / n), abs=1e-7)


@given(counts, levels)
def test_wilson_mirrors(count, level):
    k, n = count
    one, other = wilson(k, n, level), wilson(n - k, n, level)
    assert one.low == pytest.approx(1 - other.high, abs=1e-9)


@given(counts, st.integers(2, 20))
def test_wilson_narrows_with_more_data(count, times):
    k, n = count
    few, many = wilson(k, n), wilson(k * times, n * times)
    assert many.high - many.low < few.high - few.low


def test_wilson_textbook_values():
    interval = wilson(0, 20)
    assert (interval.low, interval.high) == pytest.approx((0, 0.1611), abs=1e-4)
    interval = wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (interval.low, interval.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148).percent() == "10 % [6, 16]"


@pytest.mark.parametrize("arguments", [(0, 0), (-1, 5), (6, 5), (1, 5, 0), (1, 5, 1)])
def test_wilson_refuses_nonsense(arguments):
    with pytest.raises(ValueError):
        wilson(*arguments)


finite = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=30)


@given(finite, st.integers(0, 100))
def test_bootstrap_holds_the_mean_and_repeats(values, seed):
    interval = bootstrap_mean(values, resamples=50, seed=seed)
    assert interval.low <= interval.value <= interval.high
    assert interval == bootstrap_mean(values, resamples=50, seed=seed)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= interval.low and interval.high <= max(values) + slack


@given(finite, st.floats(-1e3, 1e3))
def test_bootstrap_moves_with_its_data(values, shift):
    assume(max(values) - min(values) > 1e-3)
    still, moved = bootstrap_mean(values, resamples=50), bootstrap_mean([v + shift for v in values], resamples=50)
    assert moved.low - still.low == pytest.approx(shift, abs=1e-6)


def test_bootstrap_covers_the_true_mean_about_as_often_as_it_claims():
    rng = np.random.default_rng(0)
    intervals = [bootstrap_mean(rng.normal(3, 2, 40), resamples=300, seed=i) for i in range(200)]
    assert 0.88 <= np.mean([i.low <= 3 <= i.high for i in intervals]) <= 0.99


@pytest.mark.parametrize("values", [[], [float("nan")], [float("inf")], [[1.0, 2.0]]])
def test_bootstrap_refuses_nonsense(values):
    with pytest.raises(ValueError):
        bootstrap_mean(values)


def test_an_interval_is_json_ready():
    assert Interval(0.5, 0.4, 0.6, 10).as_dict() == {"value": 0.5, "low": 0.4, "high": 0.6, "n": 10}
