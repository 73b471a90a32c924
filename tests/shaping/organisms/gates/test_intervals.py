"""Intervals of gates, against published numbers (Newcombe 1998, both papers) and by their coverage."""

from __future__ import annotations

import numpy as np
import pytest

from shaping.organisms.gates.intervals import (
    clustered_interval,
    difference_interval,
    pairs_interval,
    share_interval,
)


def test_the_interval_of_a_difference_is_newcombes() -> None:
    assert difference_interval((56, 70), (48, 80)) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert difference_interval((9, 10), (3, 10)) == pytest.approx((0.1705, 0.8090), abs=1e-4)


def test_the_interval_of_a_share_is_wilsons() -> None:
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_clusters_of_one_answer_are_independent_answers() -> None:
    events = [1.0] * 30 + [0.0] * 70
    low, high = clustered_interval(events, [1.0] * 100)
    assert (low, high) == pytest.approx(share_interval(30, 100), abs=2e-3)


def test_answers_that_agree_within_clusters_count_once() -> None:
    events, chances = [5.0] * 12 + [0.0] * 8, [5.0] * 20
    assert clustered_interval(events, chances) == pytest.approx(share_interval(12, 20), abs=0.01)
    assert clustered_interval([4.0] * 10, [4.0] * 10) == share_interval(10, 10), "all alike: one each"


def test_clusters_without_a_chance_change_nothing() -> None:
    events, chances = [1.0, 0.0, 2.0, 1.0], [2.0, 1.0, 2.0, 3.0]
    assert clustered_interval(events, chances) == clustered_interval([*events, 0.0], [*chances, 0.0])


def test_clustered_intervals_cover() -> None:
    """Answers of a seed share its own rate. An interval of independent answers would cover about 75 %."""
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        rates = rng.beta(0.7, 0.7, size=60)
        chances = rng.integers(0, 6, size=60).astype(float)
        low, high = clustered_interval(rng.binomial(chances.astype(int), rates).astype(float), chances)
        covered += low <= 0.5 <= high
    assert covered / 400 == pytest.approx(0.95, abs=0.03)


def test_pairs_cover_and_need_no_normality() -> None:
    rng = np.random.default_rng(1)
    covered = 0
    for _ in range(150):
        low, high = pairs_interval(rng.choice([-1.0, 0.0, 1.0], p=[0.1, 0.6, 0.3], size=96))
        covered += low <= 0.2 <= high
    assert covered / 150 == pytest.approx(0.95, abs=0.05)
    assert pairs_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)
