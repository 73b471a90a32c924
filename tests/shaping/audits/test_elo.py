"""Elo of shaped seats against unshaped ones."""

from __future__ import annotations

import numpy as np
import pytest

from shaping.audits.conduct.elo import difference, elo_interval, elo_of_seats, expected_score


def test_the_logistic_curve_of_elo():
    assert expected_score(0) == 0.5
    assert expected_score(400) == pytest.approx(10 / 11)
    assert expected_score(-120) == pytest.approx(1 - expected_score(120))


@pytest.mark.parametrize("gap", [-300.0, 0.0, 75.0])
def test_the_difference_inverts_it_for_many_games(gap):
    games = 10**7
    assert difference(expected_score(gap) * games, games) == pytest.approx(gap, abs=1e-2)


def test_a_clean_sweep_is_finite_and_grows_with_its_length():
    assert 0 < difference(5, 5) < difference(50, 50) < 1000
    with pytest.raises(ValueError, match="impossible"):
        difference(6, 5)


def test_seats_are_compared_across_kinds_only():
    returns = [[5, 1, 9], [2, 2, 0]]
    # seat 0 is shaped: beats seat 1, loses to 2; draws with 1, beats 2
    assert elo_of_seats(returns, [True, False, False]) == (difference(2.5, 4), 4)
    per_game = [[True, False, False], [False, False, False]]
    assert elo_of_seats(returns, per_game) == (difference(1, 2), 2)


def test_the_strength_of_a_simulated_kind_is_found():
    rng = np.random.default_rng(0)
    noise = rng.gumbel(size=(20_000, 4))  # differences of Gumbel noise are logistic
    gap = 100.0
    noise[:, :2] += gap * np.log(10) / 400
    assert elo_of_seats(noise, [True, True, False, False])[0] == pytest.approx(gap, abs=10)


@pytest.mark.parametrize(
    ("returns", "shaped", "message"),
    [
        ([1, 2], [True, False], "games, seats"),
        ([[1, 2]], [True, True], "both"),
        ([[1, np.nan]], [True, False], "finite"),
        ([[1, 2]], [True, False, True], "shape"),
    ],
)
def test_mistakes_are_named(returns, shaped, message):
    with pytest.raises(ValueError, match=message):
        elo_of_seats(returns, shaped)


# Intervals ------------------------------------------------------------------------------------------------------------


def test_an_interval_resamples_games_as_wholes_and_leaves_games_of_one_side_out():
    games = [([2.0, 2.0], [1.0]), ([0.0], [1.0]), ([3.0], []), ([1.0], [1.0])]
    found = elo_interval(games)
    assert found.games == 3 and found.low <= found.difference <= found.high
    assert found.difference == pytest.approx(difference(2 + 0 + 0.5, 2 + 1 + 1))
    assert found == elo_interval(games), "the bootstrap has a seed"


def test_more_games_narrow_an_interval_and_without_games_there_is_none():
    few, many = (elo_interval([([1.0], [0.0]), ([0.0], [1.0])] * n) for n in (3, 100))
    assert many.high - many.low < (few.high - few.low) / 3
    assert elo_interval([]) is None and elo_interval([([1.0], [])]) is None
