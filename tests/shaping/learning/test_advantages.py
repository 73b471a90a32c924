"""Group advantages, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from shaping.learning.advantages import group_normalised, with_cost, zero_variance

RETURNS = np.array([1.0, 3.0, 5.0, 5.0, 0.0, 4.0])
GROUPS = np.array([0, 0, 7, 7, 3, 3])


def test_grpo_divides_the_centred_return_by_the_population_deviation() -> None:
    assert_allclose(group_normalised(RETURNS, GROUPS), [-1, 1, 0, 0, -1, 1])
    three = group_normalised(np.array([0.0, 0.0, 3.0]), np.zeros(3, int))
    assert_allclose(three, np.array([-1, -1, 2]) / np.sqrt(2))


def test_dr_grpo_centres_only() -> None:
    assert_allclose(group_normalised(RETURNS, GROUPS, divide_by_std=False), [-1, 1, 0, 0, -2, 2])


def test_a_group_without_variance_teaches_nothing_not_even_by_rounding() -> None:
    same = np.full(7, 0.1 + 0.2)
    assert_array_equal(group_normalised(same * np.array([1, 1, 1, 1 + 1e-15, 1, 1, 1]), np.zeros(7, int)), np.zeros(7))
    assert zero_variance(RETURNS, GROUPS) == pytest.approx(1 / 3)
    assert zero_variance(np.zeros(0), np.zeros(0, int)) is None


def test_a_group_of_one_has_no_advantage() -> None:
    assert_array_equal(group_normalised(np.array([5.0]), np.array([0])), [0.0])


@given(
    returns=st.lists(st.floats(-100, 100), min_size=2, max_size=12),
    scale=st.floats(0.1, 10),
    shift=st.floats(-50, 50),
)
def test_advantages_have_mean_zero_and_do_not_change_with_scale_or_shift(
    returns: list[float], scale: float, shift: float
) -> None:
    values = np.array(returns)
    groups = np.arange(len(values)) % 2
    advantages = group_normalised(values, groups)
    for group in (0, 1):
        assert abs(advantages[groups == group].sum()) < 1e-6
    if min(values[groups == g].std() for g in (0, 1)) > 1e-3:
        assert_allclose(group_normalised(values * scale + shift, groups), advantages, atol=1e-6)


def test_cost_is_taken_off_after_both_were_normalised() -> None:
    assert_array_equal(with_cost(np.array([1.0, -1.0]), np.array([1.0, -1.0]), 2.0), [-1.0, 1.0])
