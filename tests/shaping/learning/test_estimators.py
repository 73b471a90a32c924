"""The other advantages, by hand: leave-one-out, batch scale, turn by turn, and GAE against its definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from shaping.learning.config import Algorithm
from shaping.learning.credit.advantages import TurnLevel, estimate, gae, return_to_go

RETURNS = np.array([1.0, 3.0, 5.0, 5.0, 0.0, 0.0, 6.0])
GROUPS = np.array([0, 0, 7, 7, 3, 3, 3])
ALGORITHMS: tuple[Algorithm, ...] = ("grpo", "dr_grpo", "rloo", "reinforce_pp")


def turn_level(rewards: Sequence[np.ndarray], groups: np.ndarray, algorithm: Algorithm) -> list[np.ndarray]:
    return TurnLevel.of(algorithm, rewards, groups).advantages(rewards)


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    assert_allclose(estimate("rloo", RETURNS, GROUPS), [1 - 3, 3 - 1, 0, 0, 0 - 3, 0 - 3, 6 - 0])


def test_reinforce_pp_has_one_scale_for_the_batch() -> None:
    centred = np.array([-1.0, 1, 0, 0, -2, -2, 4])
    assert_allclose(estimate("reinforce_pp", RETURNS, GROUPS), centred / np.sqrt(26 / 7))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_whatever_the_algorithm_no_variance_and_no_others_is_no_advantage(algorithm: Algorithm) -> None:
    nearly = np.full(4, 0.1) * np.array([1, 1 + 1e-15, 1, 1])
    assert_array_equal(estimate(algorithm, nearly, np.zeros(4, int)), np.zeros(4))
    assert_array_equal(estimate(algorithm, np.array([5.0, 1.0]), np.array([0, 1])), [0.0, 0.0])
    assert estimate(algorithm, np.zeros(0), np.zeros(0, int)).shape == (0,)


REWARDS = [np.array(r, float) for r in ([0, 1, 2], [1, 0], [4], [0])]
"""Returns to go [3, 3, 2] and [1, 0] in one group, [4] and [0] in the other."""
PAIRS = np.array([0, 0, 1, 1])
CENTRED = ([1, 1.5, 0], [-1, -1.5], [2], [-2])


@pytest.mark.parametrize(
    ("algorithm", "scales"),
    [
        ("dr_grpo", [1, 1, 1, 1]),
        ("rloo", [2, 2, 2, 2]),  # two episodes per turn: n / (n - 1)
        ("grpo", [1 / np.sqrt(6.5 / 5)] * 2 + [0.5] * 2),  # over all turns of the group
        ("reinforce_pp", [1 / np.sqrt(14.5 / 7)] * 4),  # over all turns of the batch
    ],
)
def test_a_turn_is_compared_with_the_same_turn_of_the_episodes_that_reached_it(
    algorithm: Algorithm, scales: Sequence[float]
) -> None:
    found = turn_level(REWARDS, PAIRS, algorithm)
    for ours, centred, scale in zip(found, CENTRED, scales, strict=True):
        assert_allclose(ours, np.array(centred) * scale)
    assert turn_level([], np.zeros(0, int), algorithm) == []


def test_a_return_to_go_looks_ahead_only() -> None:
    assert_array_equal(return_to_go(np.array([1.0, 2.0, 4.0])), [7, 6, 4])
    rich = [REWARDS[0] + [100, 0, 0], *REWARDS[1:]]
    for before, after in zip(turn_level(REWARDS, PAIRS, "rloo"), turn_level(rich, PAIRS, "rloo"), strict=True):
        assert_array_equal(before[1:], after[1:])


@given(
    last=st.lists(st.integers(-5, 5), min_size=1, max_size=9),
    turns=st.integers(1, 4),
    algorithm=st.sampled_from(ALGORITHMS),
)
def test_if_only_the_last_turn_is_paid_turns_get_what_the_episode_would(
    last: list[int], turns: int, algorithm: Algorithm
) -> None:
    groups = np.arange(len(last)) % 3
    rewards = [np.array([0.0] * (turns - 1) + [r]) for r in last]
    whole = estimate(algorithm, np.array(last, float), groups)
    for ours, expected in zip(turn_level(rewards, groups, algorithm), whole, strict=True):
        assert_allclose(ours, np.full(turns, expected), atol=1e-12)


def by_definition(rewards: np.ndarray, values: np.ndarray, gamma: float, gae_lambda: float) -> np.ndarray:
    """A_t = sum over l of (gamma gae_lambda)^l delta_{t+l}."""
    n = len(rewards)
    delta = [rewards[t] + gamma * values[t + 1] - values[t] for t in range(n)]
    return np.array([sum((gamma * gae_lambda) ** (k - t) * delta[k] for k in range(t, n)) for t in range(n)])


@given(
    steps=st.lists(st.tuples(st.floats(-5, 5), st.floats(-5, 5)), max_size=8),
    last=st.floats(-5, 5),
    gamma=st.floats(0, 1),
    gae_lambda=st.floats(0, 1),
    terminated=st.booleans(),
)
def test_gae_is_its_definition(
    steps: list[tuple[float, float]], last: float, gamma: float, gae_lambda: float, terminated: bool
) -> None:
    rewards = np.array([r for r, _ in steps], float)
    values = np.array([v for _, v in steps] + [last], float)
    advantages, targets = gae(rewards, values, gamma=gamma, gae_lambda=gae_lambda, terminated=terminated)
    final = np.append(values[:-1], 0.0 if terminated else last)
    assert_allclose(advantages, by_definition(rewards, final, gamma, gae_lambda), atol=1e-9)
    assert_allclose(targets, advantages + values[:-1])


def test_lambda_one_is_the_return_minus_the_value_and_truncation_bootstraps() -> None:
    rewards, values = np.array([1.0, 0.0, 2.0]), np.array([0.5, 1.0, 1.5, 8.0])
    over, targets = gae(rewards, values, gamma=0.5, gae_lambda=1.0, terminated=True)
    assert_allclose(targets, [1 + 0.25 * 2, 0.5 * 2, 2])
    assert_allclose(over, targets - values[:-1])
    _, cut = gae(rewards, values, gamma=0.5, gae_lambda=1.0, terminated=False)
    assert_allclose(cut, targets + 8.0 * np.array([0.125, 0.25, 0.5]))


def test_lambda_zero_is_the_one_step_error() -> None:
    found, _ = gae(np.array([1.0, 2.0]), np.array([3.0, 5.0, 7.0]), gamma=0.9, gae_lambda=0.0, terminated=False)
    assert_allclose(found, [1 + 0.9 * 5 - 3, 2 + 0.9 * 7 - 5])


def test_after_the_end_of_the_world_the_value_is_not_even_looked_at() -> None:
    found, _ = gae(np.array([1.0]), np.array([0.25, np.nan]), gamma=1.0, gae_lambda=1.0, terminated=True)
    assert_array_equal(found, [0.75])


def test_gae_without_a_value_after_the_last_step_is_refused() -> None:
    with pytest.raises(ValueError, match=r"each of the 2 steps and one after the last, shape \(3,\), not \(2,\)"):
        gae(np.zeros(2), np.zeros(2), gamma=1.0, gae_lambda=1.0, terminated=True)
