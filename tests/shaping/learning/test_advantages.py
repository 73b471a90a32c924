"""Group advantages, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from shaping.learning.config import SPREAD_FLOOR, Algorithm
from shaping.learning.credit.advantages import Comparison, TurnLevel, estimate, with_cost, zero_variance

RETURNS = np.array([1.0, 3.0, 5.0, 5.0, 0.0, 4.0])
GROUPS = np.array([0, 0, 7, 7, 3, 3])


def test_grpo_divides_the_centred_return_by_the_population_deviation() -> None:
    assert_allclose(estimate("grpo", RETURNS, GROUPS), [-1, 1, 0, 0, -1, 1])
    three = estimate("grpo", np.array([0.0, 0.0, 3.0]), np.zeros(3, int))
    assert_allclose(three, np.array([-1, -1, 2]) / np.sqrt(2))


def test_dr_grpo_centres_only() -> None:
    assert_allclose(estimate("dr_grpo", RETURNS, GROUPS), [-1, 1, 0, 0, -2, 2])


def test_a_group_without_variance_teaches_nothing_not_even_by_rounding() -> None:
    same = np.full(7, 0.1 + 0.2)
    assert_array_equal(estimate("grpo", same * np.array([1, 1, 1, 1 + 1e-15, 1, 1, 1]), np.zeros(7, int)), np.zeros(7))
    assert zero_variance(RETURNS, GROUPS) == pytest.approx(1 / 3)
    assert zero_variance(np.zeros(0), np.zeros(0, int)) is None


def test_a_group_of_one_has_no_advantage() -> None:
    assert_array_equal(estimate("grpo", np.array([5.0]), np.array([0])), [0.0])


@example(returns=[0.0, 5e-324], scale=1.0)
@given(returns=st.lists(st.floats(-100, 100), min_size=2, max_size=12), scale=st.floats(0.1, 10))
def test_advantages_have_mean_zero_and_do_not_change_with_the_unit_of_reward(
    returns: list[float], scale: float
) -> None:
    values = np.array(returns)
    groups = np.arange(len(values)) % 2
    advantages = estimate("grpo", values, groups)
    for group in (0, 1):
        assert abs(advantages[groups == group].sum()) < 1e-6
    if min(values[groups == g].std() for g in (0, 1)) > 1e-3:
        assert_allclose(estimate("grpo", values * scale, groups), advantages, atol=1e-6)


def test_a_group_whose_returns_hardly_differ_is_not_scaled_up_to_a_unit() -> None:
    hardly, one = np.array([100.0, 101.0]), np.zeros(2, int)
    assert_allclose(estimate("grpo", hardly, one, floor=0.05), [-0.5 / 5.05, 0.5 / 5.05])
    assert_allclose(estimate("grpo", hardly, one, floor=1e-6), [-1, 1])
    assert_allclose(estimate("reinforce_pp", hardly, one, floor=0.05), [-0.5 / 5.05, 0.5 / 5.05])
    assert_allclose(estimate("dr_grpo", hardly, one, floor=0.05), [-0.5, 0.5])
    assert [Comparison.of("grpo", r, one).divisor.floored for r in (hardly, np.array([1.0, 3.0]))] == [1.0, 0.0]
    assert Comparison.of("rloo", hardly, one).divisor.floored is None


AMOUNTS = st.lists(st.tuples(st.floats(0, 8), st.floats(0, 8)), min_size=3, max_size=9)
ALGORITHMS: tuple[Algorithm, ...] = ("grpo", "dr_grpo", "rloo", "reinforce_pp")


@given(AMOUNTS, st.sampled_from(ALGORITHMS), st.floats(0.1, 4))
def test_costs_are_divided_by_the_rewards_number(
    amounts: list[tuple[float, float]], algorithm: Algorithm, weight: float
) -> None:
    returns, costs = (np.round(np.array(column), 2) for column in zip(*amounts, strict=True))
    groups = np.arange(len(returns)) % 2
    by = Comparison.of(algorithm, returns, groups)
    reward, cost = by.advantages(returns), by.advantages(costs)
    assert_allclose(by.advantages(2 * costs), 2 * cost)
    assert_allclose(with_cost(reward, cost, 2 * weight), with_cost(reward, by.advantages(2 * costs), weight))
    if all(returns[groups == g].any() for g in (0, 1)):  # else the unit of reward is 1, whatever the unit of costs
        twice = Comparison.of(algorithm, 2 * returns, groups)
        factor = 1 if algorithm in ("grpo", "reinforce_pp") else 2
        assert_allclose(twice.advantages(2 * returns), factor * reward)
        assert_allclose(twice.advantages(2 * costs), factor * cost)
    total = with_cost(reward, cost, weight)
    for group in (0, 1):
        inside = groups == group
        net = (returns - weight * costs)[inside]
        centred = net - net.mean()
        if algorithm == "rloo":
            centred *= inside.sum() / max(inside.sum() - 1, 1)
        ours = total[inside]
        if algorithm in ("dr_grpo", "rloo"):
            assert_allclose(ours, centred, atol=1e-9)
        elif algorithm == "grpo":
            largest = np.abs(returns[inside]).max()
            divisor = max(returns[inside].std(), SPREAD_FLOOR * largest) if largest else 1.0
            assert_allclose(ours, centred / divisor, atol=1e-9)
        else:  # one factor for all groups
            everyone = np.concatenate([returns[groups == g] - returns[groups == g].mean() for g in (0, 1)])
            least = SPREAD_FLOOR * np.abs(returns).max() if returns.any() else 1.0
            assert_allclose(ours, centred / max(everyone.std(), least), atol=1e-9)


def test_without_any_variance_of_reward_costs_are_still_learned_from() -> None:
    flat, none, costs, one = np.full(4, 2.0), np.zeros(4), np.array([1.0, 0, 0, 0]), np.zeros(4, int)
    centred = np.array([0.75, -0.25, -0.25, -0.25])
    assert_allclose(Comparison.of("grpo", flat, one).advantages(costs), centred / (SPREAD_FLOOR * 2))
    assert_allclose(Comparison.of("grpo", none, one).advantages(costs), centred)
    assert_allclose(Comparison.of("rloo", none, one).advantages(costs), centred * 4 / 3)


def test_turns_share_the_number_of_their_group() -> None:
    rewards = [np.array(r, float) for r in ([0, 1, 2], [1, 0], [4], [0])]
    costs = [np.array(r, float) for r in ([1, 0, 0], [0, 0], [0.5], [0])]
    by = TurnLevel.of("grpo", rewards, np.array([0, 0, 1, 1]))
    cost = by.advantages(costs)
    divisor = np.sqrt(6.5 / 5)
    assert_allclose(cost[0], np.array([0.5, 0, 0]) / divisor)
    assert_allclose(cost[1], np.array([-0.5, 0]) / divisor)
    assert_allclose(cost[2], [0.25 / 2])
    plain = TurnLevel.of("dr_grpo", rewards, np.array([0, 0, 1, 1])).advantages(costs)
    assert_allclose(np.concatenate(plain), [0.5, 0, 0, -0.5, 0, 0.25, -0.25])


def test_sizes_at_the_ends_of_the_range_of_floats_neither_overflow_nor_vanish() -> None:
    one, returns, costs = np.zeros(2, int), np.array([1.0, 3.0]), np.array([0.0, 1.0])
    usual = Comparison.of("grpo", returns, one).advantages(costs)
    for power in (-1000, 1000):
        by = Comparison.of("grpo", np.ldexp(returns, power), one)
        assert_array_equal(by.advantages(np.ldexp(costs, power)), usual)


def test_a_weight_of_zero_leaves_every_bit() -> None:
    reward = np.array([-0.0, 1.0])
    assert with_cost(reward, np.array([-0.0, np.inf]), 0.0).tobytes() == reward.tobytes()
    assert_array_equal(with_cost(np.array([1.0, -1.0]), np.array([1.0, -1.0]), 2.0), [-1.0, 1.0])
