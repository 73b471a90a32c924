"""The Price equation: known answers, and parts that always add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shaping.audits.training.selection import (
    between,
    classes,
    covariances,
    decompose,
    drift,
    selection_pressure,
    within_equal_return,
)

Population = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]

numbers = st.floats(-5, 5, allow_nan=False, width=32)


@st.composite
def populations(draw: st.DrawFn) -> Population:
    """(advantage, trait, returns, groups) of 1 to 24 episodes, with many ties in return."""
    n = draw(st.integers(1, 24))

    def column(element: st.SearchStrategy[Any]) -> NDArray[Any]:
        return np.array(draw(st.lists(element, min_size=n, max_size=n)))

    returns = column(st.sampled_from([0.0, 1.0, 2.0]))
    return column(numbers).astype(float), column(numbers).astype(float), returns, column(st.integers(0, 3))


def test_selection_pressure_by_hand() -> None:
    """Means 0 and 1/2; the products of the deviations are .5, .5, .5 and .5."""
    assert selection_pressure(np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, 1.0, 0.0, 0.0])) == 0.5
    assert selection_pressure(np.array([1.0, 1.0, -1.0, -1.0]), np.array([0.0, 0.0, 1.0, 1.0])) == -0.5


def test_selection_agrees_with_prices_equation_for_one_generation() -> None:
    """If episode i leaves w_i offspring like itself, the mean trait changes by Cov(w, z) / mean(w)."""
    offspring, trait = np.array([3.0, 0.0, 2.0, 1.0]), np.array([0.9, 0.1, 0.4, 0.3])
    after = np.repeat(trait, offspring.astype(int))
    response = selection_pressure(offspring, trait) / offspring.mean()
    assert response == pytest.approx(after.mean() - trait.mean())
    assert drift(trait, after, response) == pytest.approx(0)


@given(populations(), numbers)
def test_constant_advantage_selects_for_nothing(population: Population, constant: float) -> None:
    _, trait, returns, groups = population
    advantage = np.full(len(trait), float(constant))
    assert selection_pressure(advantage, trait) == pytest.approx(0, abs=1e-9)
    assert within_equal_return(advantage, trait, returns, groups) == pytest.approx(0, abs=1e-9)


@given(populations())
def test_between_and_within_equal_return_add_up_to_the_total(population: Population) -> None:
    advantage, trait, returns, groups = population
    parts = between(advantage, trait, returns, groups) + within_equal_return(advantage, trait, returns, groups)
    assert parts == pytest.approx(selection_pressure(advantage, trait), abs=1e-9)


@given(populations())
def test_all_three_parts_add_up_to_the_total(population: Population) -> None:
    advantage, trait, returns, groups = population
    parts = decompose(advantage, trait, returns, groups)
    assert parts.total == pytest.approx(selection_pressure(advantage, trait), abs=1e-9)
    assert parts.among_groups + parts.between_returns == pytest.approx(
        between(advantage, trait, returns, groups), abs=1e-9
    )


@given(populations())
def test_inside_one_group_nothing_is_among_groups(population: Population) -> None:
    advantage, trait, returns, _ = population
    parts = decompose(advantage, trait, returns, np.zeros(len(trait), dtype=np.int64))
    assert parts.among_groups == pytest.approx(0, abs=1e-9)


@given(populations())
def test_credit_that_depends_on_return_alone_selects_nothing_at_equal_return(population: Population) -> None:
    _, trait, returns, groups = population
    assert within_equal_return(3.0 * returns - 1.0, trait, returns, groups) == pytest.approx(0, abs=1e-9)


@given(populations())
def test_the_weighted_sum_over_classes_is_the_part_at_equal_return(population: Population) -> None:
    advantage, trait, returns, groups = population
    expected = 0.0
    for group in set(groups.tolist()):
        for value in set(returns.tolist()):
            rows = (groups == group) & (returns == value)
            if rows.any():
                expected += rows.mean() * selection_pressure(advantage[rows], trait[rows])
    assert within_equal_return(advantage, trait, returns, groups) == pytest.approx(expected, abs=1e-9)


def test_a_bonus_among_equal_returns_shows_only_at_equal_return() -> None:
    returns, groups = np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4, dtype=np.int64)
    trait, bonus = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.2, -0.2, 0.2, -0.2])
    parts = decompose(np.array([1.0, 1.0, -1.0, -1.0]) + bonus, trait, returns, groups)
    assert parts.equal_return == pytest.approx(0.1)
    assert parts.between_returns == pytest.approx(0)


def test_returns_that_differ_in_the_last_bits_are_equal_and_groups_are_kept_apart() -> None:
    returns = np.array([0.1 + 0.2, 0.3, 0.3, 0.31])
    index = classes(returns, np.array([0, 0, 1, 0]))
    assert index[0] == index[1]
    assert len(set(index.tolist())) == 3


def test_many_traits_at_once_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(0)
    advantage, traits = rng.normal(size=12), rng.normal(size=(12, 3))
    one_by_one = [selection_pressure(advantage, traits[:, k]) for k in range(3)]
    assert covariances(advantage, traits) == pytest.approx(one_by_one)


def test_bad_shapes_and_empty_samples_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(3,\) and \(2, 1\)"):
        selection_pressure(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="at least one episode"):
        drift(np.zeros(0), np.ones(1), 0.0)
    assert selection_pressure(np.zeros(0), np.zeros(0)) == 0.0
