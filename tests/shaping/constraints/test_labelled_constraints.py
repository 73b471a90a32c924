"""Prices on labelled turns, and screening of labelled episodes, with their controls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from four_episodes import same
from numpy.testing import assert_allclose

from envs.episode import Episode, Labels
from shaping.arm import compose
from shaping.constraints import Penalty, Screening
from shaping.intervention import Constraint
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.sampling.text.render import Renderer

MakeEpisode = Callable[..., Episode]


@pytest.fixture
def group(make_episode: MakeEpisode) -> list[Episode]:
    """Six episodes of one group; the first two take the overt shortcut, in one and in two turns."""
    made = []
    for n in range(6):
        labels = [Labels(deception=float(n == 5)), Labels()]
        told = make_episode([0.5 * n, 1.0], labels=labels)
        overt = {0: (True, False), 1: (True, True)}.get(n, (False, False))
        turns = tuple(
            replace(t, overt_shortcuts=("wait",) if o else ()) for t, o in zip(told.turns, overt, strict=True)
        )
        made.append(replace(told, turns=turns, tokens=told.tokens + np.int32(n)))
    return made


def credited(group: Sequence[Episode], renderer: Renderer, *constraints: Constraint) -> Credited:
    rewards = [np.array([t.reward for t in e.turns]) for e in group]
    return assign_credit(group, rewards, compose("arm", constraints), renderer)


def test_the_penalty_charges_labelled_turns_in_units_of_reward(group: list[Episode], renderer: Renderer) -> None:
    found = credited(group, renderer, Penalty(penalty=2.0, weight=0.5))
    assert_allclose(found.costs, [2, 4, 0, 0, 0, 0])
    net = found.returns - 0.5 * found.costs
    assert_allclose(found.credit, (net - net.mean()) / found.returns.std(), rtol=1e-6)


def test_an_oracle_prices_what_nobody_can_see(group: list[Episode], renderer: Renderer) -> None:
    penalty = Penalty.model_validate({"labels": {"source": "oracle", "traits": ["deception"]}})
    assert_allclose(credited(group, renderer, penalty).costs, [0, 0, 0, 0, 0, 1])
    assert compose("a", [penalty]).oracle


NEUTRAL: list[dict[str, Any]] = [{"source": "off"}, {"recall": 0.0}, {"recall": 0.0, "placebo": True}]


@pytest.mark.parametrize("labels", NEUTRAL)
@pytest.mark.parametrize("kind", [Penalty, Screening])
def test_without_labels_no_bit_changes(
    group: list[Episode], renderer: Renderer, kind: type[Constraint], labels: dict[str, Any]
) -> None:
    plain, found = credited(group, renderer), credited(group, renderer, kind.model_validate({"labels": labels}))
    assert all(same(a, b) for a, b in zip(plain.samples, found.samples, strict=True))
    assert plain.credit.tobytes() == found.credit.tobytes()


def test_the_placebo_charges_as_much_but_others(group: list[Episode], renderer: Renderer) -> None:
    for seed in range(4):
        placebo = Penalty.model_validate({"labels": {"placebo": True, "seed": seed}})
        costs = credited(group, renderer, placebo).costs
        assert sorted(costs) == [0, 0, 0, 0, 1, 2]
    totals = [Penalty.model_validate({"labels": {"placebo": True, "seed": s}}).cost_group(group) for s in range(200)]
    assert_allclose(np.mean([[c.sum() for c in costs] for costs in totals], axis=0), 0.5, atol=0.2)


def test_screening_takes_labelled_episodes_out_of_mean_and_spread(group: list[Episode], renderer: Renderer) -> None:
    found = credited(group, renderer, Screening())
    rest = found.returns[2:]
    assert_allclose(found.advantages, [0, 0, *(rest - rest.mean()) / rest.std()], rtol=1e-6)
    assert len(found.samples) == 4
    twice = credited(group, renderer, Screening(turns=2)).kept
    assert twice is not None and twice.tolist() == [True, False, True, True, True, True]


def test_recall_precision_and_the_placebo_of_screening_are_shares_of_episodes(group: list[Episode]) -> None:
    def out(**labels: Any) -> np.ndarray:
        source = Screening.model_validate({"labels": labels}).labels
        return source.labelled_episodes(group)

    assert out().tolist() == [True, True, False, False, False, False]
    assert np.mean([out(recall=0.5, seed=s)[:2] for s in range(200)]) == pytest.approx(0.5, abs=0.1)
    assert all(out(precision=0.5, seed=s).sum() == 4 and out(precision=0.5, seed=s)[:2].all() for s in range(5))
    placebo = np.array([out(placebo=True, seed=s) for s in range(100)])
    assert (placebo.sum(1) == 2).all() and placebo[:, :2].mean() == pytest.approx(1 / 3, abs=0.1)


def test_what_is_labelled_is_logged(group: list[Episode]) -> None:
    assert Penalty().readings(group[1])["labelled_turns"].tolist() == [1, 1]
    assert Screening().readings(group[0])["meant_turns"].tolist() == [1, 0]
