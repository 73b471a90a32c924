"""Curves of over-optimisation: their law, best-of-n, and the columns that they are made of."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest

from shaping.audits.overoptimisation import Path, best_of, best_of_kl, law, path_of, true_reward_lost
from shaping.audits.training.paid import agreement


def test_the_law_of_reinforcement_learning_is_recovered() -> None:
    d = np.array([0.0, 0.5, 1.0, 2.0, 4.0, 6.0])
    gold = 0.3 + np.where(d > 0, d * (0.5 - 0.2 * np.log(np.where(d > 0, d, 1))), 0)
    found = law(d, gold)
    assert found is not None
    assert (found.start, found.alpha, found.beta) == pytest.approx((0.3, 0.5, 0.2))
    assert found.at(d) == pytest.approx(gold)
    peak = found.peak
    assert peak == pytest.approx(math.exp(0.5 / 0.2 - 1))
    near = found.at(np.array([peak * 0.99, peak, peak * 1.01]))
    assert near[1] > max(near[0], near[2]) and near[1] - 0.3 == pytest.approx(found.peak_gain)


def test_a_law_without_a_peak_says_so_and_too_few_points_give_none() -> None:
    d = np.array([0.0, 1.0, 2.0, 3.0])
    rising = law(d, 0.1 + 0.5 * d)
    assert rising is not None and abs(rising.beta) < 1e-9
    assert law(d[:2], d[:2]) is None and law(np.ones(5), np.arange(5.0)) is None
    with pytest.raises(ValueError, match="not negative"):
        law(-d, d)


def test_a_run_is_a_path_of_root_kl_of_episodes() -> None:
    rows = [
        {"kl": 0.0, "sampled_tokens": 40.0, "paid": 0.0, "true_reward": 0.5},
        {"kl": 0.1, "sampled_tokens": 40.0, "paid": 1.0, "true_reward": 0.9},
        {"kl": 0.225, "sampled_tokens": 40.0, "paid": 2.0, "true_reward": 0.6},
        {"kl": -1e-9, "sampled_tokens": 40.0, "paid": 2.0, "true_reward": 0.7},
    ]
    found = path_of(rows)
    assert found is not None
    assert found.distance.tolist() == [0.0, 2.0, 3.0, 0.0]
    assert found.loss_from_peak() == pytest.approx(0.2)
    assert path_of([{**row, "kl": None} for row in rows]) is None and path_of(rows[:1]) is None
    flat = Path(np.arange(3.0), np.arange(3.0), np.array([0.0, 0.9, 0.0]))
    assert flat.loss_from_peak(3) == pytest.approx(0.45 - 0.45), "a single high update is no peak of a running mean"


def test_what_is_lost_is_taken_from_running_means_of_the_rows_that_know_it() -> None:
    """Windows of five: .6 from the fourth update to the sixth, and at the end the mean of the last three."""
    gold = [0.0, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.3, 0.0, 0.0]
    rows = [{"true_reward": value} for value in gold] + [{"other": 1.0}]
    assert true_reward_lost(rows) == pytest.approx(0.6 - 0.1)
    assert true_reward_lost(rows[:9]) is None and true_reward_lost([]) is None


def test_best_of_n_is_the_mean_over_all_subsets() -> None:
    rng = np.random.default_rng(0)
    proxy, gold = rng.standard_normal(7), rng.standard_normal(7)
    for n in (1, 2, 5, 7):
        by_hand = np.mean([gold[max(each, key=lambda i: proxy[i])] for each in combinations(range(7), n)])
        assert best_of(proxy, gold, n) == pytest.approx(by_hand)
    assert best_of_kl(1) == 0 and best_of_kl(4) == pytest.approx(math.log(4) - 0.75)
    with pytest.raises(ValueError, match="n from 1 to m"):
        best_of(proxy, gold, 8)


def test_agreement_is_a_correlation_within_groups() -> None:
    """Between the groups paid and true fall apart; within both they agree."""
    groups = np.array([0, 0, 1, 1])
    assert agreement(np.array([0.0, 1.0, 10.0, 11.0]), np.array([5.0, 6.0, 0.0, 1.0]), groups) == pytest.approx(1.0)
    assert agreement(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0]), groups) == pytest.approx(0.0)
    assert agreement(np.array([3.0, 3.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0]), groups) is None
