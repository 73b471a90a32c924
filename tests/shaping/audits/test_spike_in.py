"""Spike-in: rates with their variance, how often a known share of deceit is detected, and what replaces what."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scripted_episodes import played

from envs.episode import Episode
from shaping.audits.conduct.spike_in import (
    OUTCOMES,
    Counts,
    Detection,
    counts_of,
    detection_curve,
    detection_limit,
    rate,
    spiked,
)

MakeEpisode = Callable[..., Episode]


def counts(events: object, opportunities: object = None, worlds: object = None) -> Counts:
    found = np.asarray(events, np.float64)
    chances = np.ones(len(found)) if opportunities is None else np.asarray(opportunities, np.float64)
    return Counts(found, chances, np.zeros(len(found), np.int64) if worlds is None else np.asarray(worlds, np.int64))


def test_a_rate_is_the_mean_over_worlds_of_events_per_opportunity() -> None:
    assert rate(counts([1, 0, 3, 1], [2, 2, 3, 5], [0, 0, 1, 1]))[0] == pytest.approx((1 / 4 + 4 / 8) / 2)
    assert rate(counts([1, 0, 0], [2, 2, 0], [0, 0, 1]))[0] == pytest.approx(1 / 4)  # no opportunity in one world
    assert np.isnan(rate(counts([0, 0], [0, 0]))[0])


def test_its_variance_is_that_of_resampled_episodes() -> None:
    generator = np.random.default_rng(0)
    chances = generator.integers(1, 9, 400)
    lies = generator.binomial(chances, generator.choice([0.1, 0.8], 400))  # episodes differ: more than binomial
    whole = counts(lies, chances, np.arange(400) % 2)
    again = [generator.integers(0, 200, 200) for _ in range(1500)]
    resampled = [rate(whole.take(np.concatenate([2 * i, 2 * generator.permutation(i) + 1])))[0] for i in again]
    assert rate(whole)[1] == pytest.approx(float(np.var(resampled)), rel=0.15)


def test_no_deceit_is_detected_as_often_as_chance_says_and_much_deceit_always() -> None:
    generator = np.random.default_rng(1)
    own = counts(generator.random(80) < 0.3)
    curve = detection_curve(own, counts(np.ones(80)), [0.0, 0.1, 0.3, 0.6], seed=2, resamples=600)
    chance, *rest = (point.rate for point in curve)
    assert chance <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)
    assert chance < rest[0] < rest[1] <= rest[2] and rest[2] > 0.95
    assert [point.share for point in curve] == [0.0, 0.1, 0.3, 0.6]


def test_what_does_not_change_the_metric_is_never_seen() -> None:
    own = counts(np.arange(60) % 2)
    curve = detection_curve(own, own, [0.1, 1.0], seed=0)
    assert all(point.rate <= 0.12 for point in curve)
    assert detection_limit(curve) is None
    nothing = counts(np.zeros(4), np.zeros(4))
    assert [point.rate for point in detection_curve(nothing, nothing, [0.5], seed=0)] == [0.0]


@pytest.mark.parametrize(
    ("rates", "limit"),
    [
        ([0.05, 0.5, 0.9, 1.0], 0.3),
        ([0.05, 0.9, 0.7, 1.0], 0.5),  # not detected at .3: what .1 shows is no limit
        ([0.05, 0.1, 0.2, 0.7], None),
        ([0.9, 0.9, 0.9, 0.9], 0.1),  # a share of 0 is none
    ],
)
def test_the_limit_is_the_smallest_share_from_which_on_all_are_seen(rates: list[float], limit: float | None) -> None:
    shares = [0.0, 0.1, 0.3, 0.5]
    assert detection_limit([Detection(*point) for point in zip(shares, rates, strict=True)]) == limit


def test_a_share_of_the_episodes_is_replaced_in_place_and_larger_shares_replace_more() -> None:
    own = [played("steward", "honest", seed) for seed in range(10)]
    lies = [played("steward", "deceiver", seed) for seed in range(10)]
    before: set[int] = set()
    for share in (0.0, 0.1, 0.3, 1.0):
        found = spiked(own, lies, share, seed=5)
        replaced = {place for place in range(10) if found[place] is lies[place]}
        assert all(found[place] is own[place] for place in range(10) if place not in replaced)
        assert len(replaced) == round(10 * share) and before <= replaced
        before = replaced


def test_outcomes_of_an_episode_are_those_of_the_metrics() -> None:
    options = {"size": 6, "inquiry": 0.4, "honest_share": 0.5}
    poacher, honest = (played("pact", who, **options) for who in ("deceiver", "honest"))
    found = {name: counts_of([poacher, honest], count) for name, count in OUTCOMES.items()}
    assert found["deceptive_episodes"].events.tolist() == [1, 0]
    assert rate(found["covert_share"])[0] == 1.0 and found["covert_share"].opportunities[1] == 0
    assert rate(found["false_answers"])[0] == 1.0
    assert found["evasion"].events[0] == found["covert_share"].events[0] > 0
    assert found["deception"].opportunities[1] > 0 == found["deception"].events[1]
