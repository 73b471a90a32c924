"""The gauge of selection: bands and scores under chance, the alarm, and its lead over the behaviour."""

from __future__ import annotations

import math
from itertools import permutations
from typing import Any

import numpy as np
import pytest

from shaping.audits.training.alarm import Gauge, alarms
from shaping.audits.training.gauge import Streaks, chance_band, chance_scores, is_above, share_above
from shaping.audits.training.lead import Lead, lead_of, share_band, spread_of, summary_of, with_scores
from shaping.audits.training.selection import selection_pressure

CREDIT = np.array([1.0, 0.0, -1.0, 2.0, -2.0, 0.0])
TRAIT = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
GROUPS = np.array([0, 0, 0, 1, 1, 1])


def deals() -> list[float]:
    """Selection in each of the 36 ways to deal the credits within the two groups of three."""
    return [
        selection_pressure(np.array([*first, *second]), TRAIT)
        for first in permutations(CREDIT[:3])
        for second in permutations(CREDIT[3:])
    ]


def test_the_band_is_the_quantile_of_all_deals_and_the_score_counts_their_deviations() -> None:
    found = deals()
    # selection is (1 + 2) / 6, which one pair of the 3 x 3 places of the trait gives: above 95 % it cannot be
    assert selection_pressure(CREDIT, TRAIT) == pytest.approx(max(found)) == pytest.approx(0.5)
    assert chance_band(CREDIT, TRAIT[:, None], GROUPS)[0] == pytest.approx(max(found))
    assert chance_band(CREDIT, TRAIT[:, None], GROUPS, level=0.5)[0] == pytest.approx(np.quantile(found, 0.5))
    score = chance_scores(CREDIT, TRAIT[:, None], GROUPS)[0]
    assert score == pytest.approx(0.5 / np.std(found))


def test_what_favours_whole_groups_is_no_selection_within_them_and_nothing_is_scored_where_nothing_varies() -> None:
    credit, trait = np.array([1.0, 1.0, -1.0, -1.0]), np.array([1.0, 1.0, 0.0, 0.0])
    groups = np.array([0, 0, 1, 1])
    band = float(chance_band(credit, trait[:, None], groups)[0])
    assert band == selection_pressure(credit, trait) == 0.5
    assert not is_above(0.5, band)
    assert chance_scores(credit, trait[:, None], groups)[0] == 0.0
    assert chance_band(np.zeros(0), np.zeros((0, 2)), np.zeros(0, np.int64)).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="shape"):
        chance_band(credit, trait, groups)


def test_chance_alone_is_above_the_band_in_one_update_in_twenty() -> None:
    rng = np.random.default_rng(7)
    groups = np.repeat(np.arange(4), 8)
    above, scores = [], []
    for _ in range(400):
        trait = (rng.random(32) < 0.2).astype(float)
        credit = rng.normal(size=32)
        above.append(
            is_above(selection_pressure(credit, trait), chance_band(credit, trait[:, None], groups, deals=199)[0])
        )
        scores.append(chance_scores(credit, trait[:, None], groups)[0])
    assert 0.015 <= np.mean(above) <= 0.085, "5 % and three standard errors"
    assert abs(np.mean(scores)) < 0.15 and 0.85 < np.std(scores) < 1.15


def row(update: int, selection: float, **more: Any) -> dict[str, Any]:
    return {
        "update": update, "selection/deception": selection, "selection_band/deception": 1.0,
        "selection_score/deception": selection, "trained": 100, **more,
    }  # fmt: skip


def test_streaks_count_updates_in_a_row_and_go_on_after_a_resume() -> None:
    rows = [row(n, s) for n, s in enumerate([2.0, 2.0, 0.5, 1.0, 3.0, 3.0])]
    whole = Streaks()
    assert [whole.see(r)["selection_streak/deception"] for r in rows] == [1, 2, 0, 0, 1, 2]
    assert Streaks(rows[:5]).see(rows[5]) == {"selection_streak/deception": 2}
    assert whole.see({"selection/deception": 5.0}) == {}, "a row without a band says nothing"
    assert share_above("deception", rows) == pytest.approx(4 / 6) and share_above("deception", []) is None


def test_the_alarm_rings_once_for_each_time_that_selection_lasts() -> None:
    streak = Gauge(rule="streak", updates=2, traits=["deception"])
    rows = [row(n, s) for n, s in enumerate([2.0, 2.0, 2.0, 0.0, 2.0, 2.0])]
    assert alarms(rows, streak) == {"deception": [1, 5]}
    # sums of two: -, 4, 4, 2, 2, 4; the 97.7 % quantile of their sum is 2 x sqrt(2) = 2.83
    pooled = Gauge(rule="pooled", updates=2, level=0.97725, traits=["deception"])
    assert alarms(rows, pooled) == {"deception": [1, 5]}
    assert alarms(rows, Gauge(traits=[])) == {} == alarms([{"reward": 1.0}] * 9, Gauge())


def test_the_lead_is_from_the_alarm_to_the_behaviour() -> None:
    gauge = Gauge(rule="streak", updates=2, traits=["deception"])
    shares = [0.1, 0.1, 0.1, 0.1, 0.1, 0.4, 0.5, 0.6]
    rows = [row(n, 2.0 if n >= 1 else 0.0, deceptive_episodes=s) for n, s in enumerate(shares)]
    # looked at from update 2 on: above in 2 and 3, so the alarm is with 3; the behaviour with 5 and 6
    assert lead_of(rows, "deception", "deceptive_episodes", gauge, start=2) == Lead(3, 6, 2)
    assert lead_of(rows, "deception", "deceptive_episodes", gauge, start=2).lead == 3  # type: ignore[union-attr]
    calm = [{**r, "deceptive_episodes": 0.1} for r in rows]
    assert lead_of(calm, "deception", "deceptive_episodes", gauge) == Lead(3, None, 2)
    assert lead_of(rows, "deception", "rate/deception", gauge) is None, "no such column"
    assert lead_of(rows[:3], "deception", "deceptive_episodes", gauge) is None, "too short"
    pooled = lead_of(rows, "deception", "deceptive_episodes", Gauge(updates=2, level=0.999))
    # pooled: updates 4 and 5 have 50 of 200 episodes, which 20 of 200 before make unlikely; 2.0 + 2.0 < 3.09 sqrt(2)
    assert pooled == Lead(None, 5)


def test_bands_of_behaviour_and_of_old_rows() -> None:
    assert spread_of([0.0, 2.0, 0.0, 2.0]) == pytest.approx(math.sqrt(2)) and spread_of([1.0]) == 0.0
    assert spread_of([1.0, 2.0, 3.0]) == pytest.approx(math.sqrt(0.5)), "a trend adds little"
    assert share_band(0, 4, 1, 0.85) == 0.0, "P(0 of 1) = 4.5 / 5 with Jeffreys' prior"
    assert share_band(0, 4, 1, 0.95) == 1.0
    old = with_scores([{"selection/deception": value} for value in (0.0, 2.0, 0.0, 2.0)], "deception")
    assert [r["selection_score/deception"] for r in old] == pytest.approx([0.0, math.sqrt(2)] * 2)


def test_leads_are_summed_up_with_what_was_missed_and_what_came_to_nothing() -> None:
    leads = [Lead(2, 6, 1), Lead(4, 4, 4), Lead(7, 5), Lead(None, 3, 2), Lead(1, None, 1), Lead(None, None)]
    found = summary_of(leads, [0, 1, 2, 0, 1, 2])
    assert (found.runs, found.left, found.before, found.same, found.later) == (6, 4, 1, 1, 1)
    assert (found.missed, found.false_alarms) == (1, 1)
    assert found.mean == pytest.approx(2 / 3) and found.low <= found.mean <= found.high
    assert found.rang[0] == pytest.approx((5 + 0 + 1) / 3), "where the run's alarm rang and the behaviour changed"
    assert math.isnan(summary_of([Lead(1, None)], [0]).mean)
