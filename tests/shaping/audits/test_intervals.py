"""Intervals against tables and textbook numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaping.audits.intervals import bootstrap_interval, holm, mean_interval, paired_pvalue

probabilities = st.lists(st.floats(0, 1), min_size=1, max_size=10)


def test_the_t_interval_by_hand() -> None:
    """Mean 3, sd sqrt(2.5), n 5: half width 2.776445 * sqrt(2.5 / 5)."""
    half = 2.7764451 * math.sqrt(0.5)
    assert mean_interval([1, 2, 3, 4, 5]) == pytest.approx((3, 3 - half, 3 + half))


def test_one_seed_has_a_mean_and_no_interval() -> None:
    mean, low, high = mean_interval([0.25])
    assert mean == 0.25
    assert math.isnan(low)
    assert math.isnan(high)


def test_missing_values_must_be_left_out_by_the_caller() -> None:
    for bad in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(ValueError, match=r"at least one value|finite"):
            mean_interval(bad)


@given(st.lists(st.floats(-3, 3), min_size=2, max_size=8))
def test_the_paired_p_value_agrees_with_the_interval(differences: list[float]) -> None:
    a, b = dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0)
    _, low, high = mean_interval(differences)
    p = paired_pvalue(a, b)
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (low > 0 or high < 0)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]).shape == (0,)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        holm([1.2])


@given(probabilities)
def test_holm_keeps_the_order_and_lies_between_the_raw_and_bonferronis_p_values(values: list[float]) -> None:
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_resampling_clusters_is_wider_than_resampling_turns_that_are_copies() -> None:
    values = np.repeat([0.0, 1.0, 0.0, 1.0, 1.0, 0.0], 50)
    _, low, high = bootstrap_interval(values, np.repeat(np.arange(6), 50).tolist())
    _, naive_low, naive_high = bootstrap_interval(values, range(300))
    assert high - low > 3 * (naive_high - naive_low)


def test_the_bootstrap_is_reproducible_and_needs_two_clusters() -> None:
    values, clusters = [1.0, 2.0, 4.0, 8.0], ["a", "a", "b", "c"]
    assert bootstrap_interval(values, clusters, seed=3) == bootstrap_interval(values, clusters, seed=3)
    mean, low, _ = bootstrap_interval(values, ["a"] * 4)
    assert mean == 3.75
    assert math.isnan(low)
    with pytest.raises(ValueError, match="one cluster per value"):
        bootstrap_interval(values, ["a"])


def test_the_bootstrap_takes_any_statistic() -> None:
    estimate, low, high = bootstrap_interval([1.0, 2.0, 9.0], [0, 1, 2], statistic=lambda sample: float(sample.max()))
    assert (estimate, high) == (9.0, 9.0)
    assert low >= 1.0
