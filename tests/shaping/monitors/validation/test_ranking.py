"""Curves are scikit-learn's, intervals cover what they say, and rates know that turns of an episode are alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from shaping.monitors.validation.ranking import FIGURES, Ranking, figures, threshold_at, with_intervals
from shaping.monitors.validation.rates import rate


def test_figures_of_a_ranking_worked_out_by_hand() -> None:
    """Scores .9+ .8- .8+ .3- .1-: pairs 2 x 3, of which 5 are right and one is a tie, so AUROC 5.5/6."""
    scores, positive = np.array([0.9, 0.8, 0.8, 0.3, 0.1]), np.array([True, False, True, False, False])
    found = figures(scores, positive)
    assert found["auroc"] == pytest.approx(5.5 / 6 * 1.0)
    assert found["average_precision"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    assert (found["tpr_at_1_fpr"], found["tpr_at_5_fpr"]) == (0.5, 0.5)
    assert found["brier"] == pytest.approx((0.01 + 0.64 + 0.04 + 0.09 + 0.01) / 5)
    assert threshold_at(scores, positive, 0.05) == 0.9 and threshold_at(scores, positive, 0.34) == 0.8
    assert figures(scores, np.ones(5, bool)) == {}


def test_a_threshold_that_nothing_keeps_is_above_every_score() -> None:
    assert threshold_at(np.array([1.0, 1.0]), np.array([True, False]), 0.05) == math.inf
    with pytest.raises(ValueError, match="turns without it"):
        threshold_at(np.array([1.0]), np.array([True]), 0.05)


def test_the_fast_figures_are_scikit_learns_under_any_weights() -> None:
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 12, 300) / 12, rng.random(300) < 0.3
    ranking = Ranking(scores, positive)
    plain = ranking.figures(np.ones(300))
    assert plain is not None and dict(zip(FIGURES, plain, strict=True)) == pytest.approx(figures(scores, positive))
    weights = rng.integers(0, 4, 300).astype(float)
    found = ranking.figures(weights)
    assert found is not None
    assert found[0] == pytest.approx(roc_auc_score(positive, scores, sample_weight=weights))
    assert found[1] == pytest.approx(average_precision_score(positive, scores, sample_weight=weights))
    assert ranking.figures(np.where(positive, 0.0, 1.0)) is None


def drawn(rng: np.random.Generator, episodes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[int, str]]:
    """Episodes of 8 turns whose scores share an offset: positives are N(1, 1) + offset, negatives N(0, 1) + offset."""
    offset = rng.normal(0, 1.5, episodes)
    positive = np.tile(np.arange(8) % 2 == 0, episodes)
    episode = np.repeat(np.arange(episodes), 8)
    scores = 1 / (1 + np.exp(-(positive + rng.normal(size=8 * episodes) + offset[episode])))
    return scores, positive, episode, dict.fromkeys(range(episodes), "one")


def test_the_cluster_bootstrap_covers_the_truth_and_resampling_turns_does_not() -> None:
    """True AUROC: P(N(1, 1 + 1.5^2) > N(0, 1 + 1.5^2)) = Phi(1 / sqrt(6.5)) = .6526 for turns of different episodes."""
    truth = 0.6526
    rng = np.random.default_rng(1)
    covered, narrow = [], []
    for _ in range(80):
        scores, positive, episode, strata = drawn(rng, 80)
        keep = np.where(episode % 2 == 0, positive, ~positive)  # an episode has turns of one class: offsets matter
        s, p, e = scores[keep], positive[keep], episode[keep]
        sides = {i: "positive" if i % 2 == 0 else "negative" for i in strata}
        found = with_intervals(s, p, e, sides, resamples=150)["auroc"]
        covered.append(found.low <= truth <= found.high)
        alone = with_intervals(s, p, np.arange(len(s)), dict.fromkeys(range(len(s)), "one"), resamples=80)["auroc"]
        narrow.append(alone.low <= truth <= alone.high)
    assert np.mean(covered) >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 80)  # .94 in 300 simulations; .91 with 40 episodes
    assert np.mean(narrow) < 0.8, np.mean(narrow)


def test_a_perfect_score_is_not_certain() -> None:
    """Four episodes each: Wilson's lower bound of 4 in 4 is 4 / (4 + 3.8415)."""
    positive = np.array([True] * 4 + [False] * 4)
    found = with_intervals(positive.astype(float), positive, np.arange(8), dict.fromkeys(range(8), "all"), resamples=50)
    assert found["auroc"][:3] == pytest.approx((1.0, 4 / (4 + 3.8415), 1.0), abs=1e-4)
    assert found["tpr_at_1_fpr"].low == pytest.approx(4 / (4 + 3.8415), abs=1e-4)
    assert found["brier"][:3] == (0.0, 0.0, 0.0)


def test_one_class_has_no_figures() -> None:
    found = with_intervals(np.ones(3), np.ones(3, bool), np.arange(3), dict.fromkeys(range(3), "a"))
    assert all(math.isnan(figure.value) and figure.n == 0 for figure in found.values())


# Rates ----------------------------------------------------------------------------------------------------------------


def test_a_rate_of_independent_observations_is_wilsons() -> None:
    """0 of 200: upper limit z^2 / (n + z^2) = 3.8415 / 203.8415; 3 of 200: .0051 to .0432."""
    assert rate([False] * 200)[:3] == pytest.approx((0, 0, 3.8415 / 203.8415), abs=1e-5)
    assert rate([True] * 3 + [False] * 197)[:3] == pytest.approx((0.015, 0.0051, 0.0432), abs=1e-4)
    assert math.isnan(rate([]).value)


def test_turns_of_one_episode_that_agree_count_as_one() -> None:
    """10 episodes of 10 equal turns, 4 of them hits: a design effect of 100 / 9, so 9 independent turns in all."""
    hits, clusters = np.repeat([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], 10), np.repeat(np.arange(10), 10)
    clustered, alone = rate(hits, clusters), rate(hits[::10][:9])
    variance = 10 / 9 * (4 * 6.0**2 + 6 * 4.0**2) / 100**2
    effective = 100 / (variance / (0.24 / 100))
    assert effective == pytest.approx(9.0)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.02)
    assert rate(np.ones(100, bool), clusters).low == pytest.approx(10 / (10 + 3.8415), abs=1e-4)
    spread = rate(np.tile([True, False], 50), clusters)  # each episode has its five hits: no more than independent ones
    assert spread[:3] == pytest.approx(rate(np.tile([True, False], 50))[:3])
