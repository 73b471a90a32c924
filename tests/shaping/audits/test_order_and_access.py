"""Order violations and best-of-k, against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shaping.audits.training.access import access, best_of_k
from shaping.audits.training.order import order_violations, zero_variance

coarse = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=16)


def one_group(n: int) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


def test_a_reversed_pair_is_violated_and_a_tied_credit_is_flattened() -> None:
    """Returns 0, 1, 2 make three pairs: 1 over 0 is kept and 2 over the others reversed; then 2 over 1 is a tie."""
    returns = np.array([0.0, 1.0, 2.0])
    assert order_violations(returns, np.array([0.0, 1.0, -1.0]), one_group(3)) == (2, 3, 0)
    assert order_violations(returns, np.array([0.0, 1.0, 1.0]), one_group(3)) == (0, 3, 1)


def test_ties_in_return_are_not_pairs() -> None:
    found = order_violations(np.array([1.0, 1.0, 0.1 + 0.2, 0.3]), np.array([1.0, 2.0, 3.0, 4.0]), one_group(4))
    assert found.pairs == 4
    assert order_violations(np.ones(3), np.array([0.0, 1.0, 2.0]), one_group(3)).share is None


def test_episodes_of_different_groups_are_not_compared() -> None:
    found = order_violations(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0, 1]))
    assert (found.pairs, found.share) == (0, None)


@given(coarse)
def test_identity_credit_inverts_and_flattens_no_pair(values: list[float]) -> None:
    returns = np.array(values)
    found = order_violations(returns, returns, one_group(len(values)))
    assert (found.violated, found.flattened) == (0, 0)


@given(coarse)
def test_reversed_credit_inverts_every_pair(values: list[float]) -> None:
    returns = np.array(values)
    found = order_violations(returns, -returns, one_group(len(values)))
    assert found.violated == found.pairs == sum(a != b for a, b in combinations(values, 2))


@given(coarse)
def test_constant_credit_flattens_every_pair_despite_32_bit_noise(values: list[float]) -> None:
    credit = np.full(len(values), 0.1) * (1 + 1e-7 * (-1.0) ** np.arange(len(values)))
    found = order_violations(np.array(values), credit, one_group(len(values)))
    assert (found.violated, found.flattened) == (0, found.pairs)


def test_one_entry_per_episode_is_required() -> None:
    with pytest.raises(ValueError, match="one entry per episode"):
        order_violations(np.zeros(3), np.zeros(2), one_group(3))


def test_zero_variance_is_the_share_of_groups_with_one_return() -> None:
    assert zero_variance(np.array([1.0, 1.0, 0.0, 1.0, 5.0]), np.array([0, 0, 1, 1, 2])) == pytest.approx(2 / 3)
    assert zero_variance(np.zeros(0), np.zeros(0, dtype=np.int64)) is None


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=7), st.integers(1, 7))
def test_best_of_k_is_the_mean_maximum_over_all_subsets(values: list[float], k: int) -> None:
    k = min(k, len(values))
    subsets = [max(subset) for subset in combinations(values, k)]
    assert best_of_k(np.array(values), k) == pytest.approx(sum(subsets) / len(subsets), abs=1e-9)


def test_best_of_k_of_zeros_and_ones_is_pass_at_k() -> None:
    """3 of 10 correct, k = 2: 1 - C(7, 2) / C(10, 2) = 1 - 21 / 45."""
    assert best_of_k(np.array([1.0] * 3 + [0.0] * 7), 2) == pytest.approx(1 - 21 / 45)


def test_best_of_k_of_many_episodes_does_not_overflow() -> None:
    assert best_of_k(np.ones(5000), 2500) == pytest.approx(1)


def test_best_of_k_refuses_more_draws_than_episodes() -> None:
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k={k} and 3 episodes"):
            best_of_k(np.zeros(3), k)


def test_access_is_a_share_of_the_largest_return_averaged_over_seeds() -> None:
    assert access(np.array([4.0, 8.0]), 8.0, 2) == 1.0
    assert access(np.array([[4.0, 8.0], [0.0, 4.0]]), 8.0, 2) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="positive"):
        access(np.array([1.0]), 0.0, 1)
