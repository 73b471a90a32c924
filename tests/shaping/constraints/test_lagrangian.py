"""The multiplier: its ascent, its place in the advantage, its state, and costs that it takes from others."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from four_episodes import RETURNS, same
from numpy.testing import assert_allclose
from pydantic import ValidationError

from envs.episode import Episode, Event
from shaping.arm import compose
from shaping.constraints import Lagrangian
from shaping.hooks import Group, UpdateReport
from shaping.intervention import Constraint
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.readings import readings
from shaping.sampling.text.render import Renderer

MakeEpisode = Callable[..., Episode]
GRAB = Event("act", "grab", "grab 1")


def hacked(make_episode: MakeEpisode, turns: int, **changes: Any) -> Episode:
    """An episode that takes the overt shortcut in its first `turns` turns of two."""
    made = make_episode(**changes)
    told = tuple(replace(t, overt_shortcuts=("wait",) if n < turns else ()) for n, t in enumerate(made.turns))
    return replace(made, turns=told)


def credited(renderer: Renderer, group: list[Episode], *constraints: Constraint) -> Credited:
    rewards = [np.array([t.reward for t in e.turns]) for e in group]
    return assign_credit(group, rewards, compose("arm", constraints), renderer)


def report(*episodes: Episode) -> UpdateReport:
    zeros = np.zeros(len(episodes))
    return UpdateReport(0, (Group(episodes, zeros, zeros),))


def test_log_lambda_ascends_on_the_moving_average_of_costs(make_episode: MakeEpisode) -> None:
    found = Lagrangian(weight=0.5, limit=0.5, learning_rate=0.2, memory=0.75)
    always, never = report(hacked(make_episode, 2)), report(hacked(make_episode, 0), hacked(make_episode, 0))
    found.after_update(always)
    assert found.multiplier == pytest.approx(0.5 * math.exp(0.2 * (2 - 0.5)))
    found.after_update(never)
    assert found.multiplier == pytest.approx(0.5 * math.exp(0.2 * (1.5 + 0.75 * 2 - 0.5)))


def test_lambda_stays_within_its_bounds_and_comes_back_at_once(make_episode: MakeEpisode) -> None:
    found = Lagrangian(weight=1.0, limit=1.0, learning_rate=5.0, memory=0.0, bounds=(0.5, 2.0))
    for _ in range(5):
        found.after_update(report(hacked(make_episode, 2)))
    assert found.multiplier == pytest.approx(2.0)
    found.after_update(report(hacked(make_episode, 0)))
    assert found.multiplier == pytest.approx(0.5)


def test_the_advantage_is_the_average_of_reward_and_cost(renderer: Renderer, make_episode: MakeEpisode) -> None:
    played = [hacked(make_episode, n % 3, rewards=r, seed=0) for n, r in enumerate(RETURNS)]
    reward, cost = np.array([1, 3, 2, 0.0]), np.array([0, 1, 2, 0.0])
    scores = [(x - x.mean()) / x.std() for x in (reward, cost)]
    apart = credited(renderer, played, Lagrangian(weight=3.0))
    assert_allclose(apart.credit, (scores[0] - 3 * scores[1]) / 4, rtol=1e-6)
    shared = credited(renderer, played, Lagrangian(weight=3.0, normalise="shared"))
    net = reward - 3 * cost
    assert_allclose(shared.credit, (net - net.mean()) / reward.std() / 4, rtol=1e-6)


def test_a_lambda_of_zero_stays_zero_and_changes_no_bit(renderer: Renderer, make_episode: MakeEpisode) -> None:
    off = Lagrangian(weight=0.0)
    off.after_update(report(hacked(make_episode, 2)))
    assert off.multiplier == 0 and off.state_dict() == {}
    played = [hacked(make_episode, 1, rewards=r, seed=0) for r in RETURNS]
    plain, found = credited(renderer, played), credited(renderer, played, off)
    assert all(same(a, b) for a, b in zip(plain.samples, found.samples, strict=True))


def test_its_state_is_json_and_a_copy_goes_on_with_it_bit_for_bit(make_episode: MakeEpisode) -> None:
    one, other = Lagrangian(), Lagrangian()
    one.after_update(report(hacked(make_episode, 2)))
    other.load_state_dict(json.loads(json.dumps(one.state_dict())))
    for found in (one, other):
        found.after_update(report(hacked(make_episode, 1)))
    assert one.multiplier == other.multiplier and one.state_dict() == other.state_dict()
    assert one.multiplier != Lagrangian().multiplier


def test_the_costs_of_another_constraint_can_be_limited(make_episode: MakeEpisode) -> None:
    overseer = {"use": "OverseerPenalty", "accuracy": 1.0, "penalty": 3.0}
    found = Lagrangian.model_validate({"of": overseer, "memory": 0.0, "limit": 2.0, "learning_rate": 1.0})
    seen = make_episode([0.0, 0.0], [[GRAB]])
    found.after_update(report(seen))
    assert found.multiplier == pytest.approx(0.1 * math.e)
    told = readings([found], [seen])
    assert told["readings/lagrangian/lambda"] == pytest.approx(0.1 * math.e)
    assert (told["readings/lagrangian/cost"], told["readings/lagrangian/seen"]) == (3.0, 1.0)


def test_what_its_costs_are_shown_counts(make_episode: MakeEpisode) -> None:
    lies = Lagrangian.model_validate({"of": "LiePenalty"})
    assert lies.reads_truth and compose("a", [lies]).oracle
    assert not compose("a", [Lagrangian.model_validate({"of": "OverseerPenalty"})]).oracle
    assert compose("a", [Lagrangian()]).oracle  # the world's own list of shortcuts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bounds": (0.0, 1.0)}, "greater than 0"),
        ({"weight": 5.0, "bounds": (0.1, 1.0)}, "lambda starts at 5.0, outside of its bounds"),
        ({"of": "ActionMask"}, "ActionMask is no constraint that only sets costs"),
        ({"of": {"use": "Lagrangian"}}, "Lagrangian is no constraint that only sets costs"),
        ({"of": "Overseer"}, "unknown constraint 'Overseer'; built-in ones are ActionMask"),
        ({"of": {"use": "OverseerPenalty", "accuracy": 2}}, "'OverseerPenalty': accuracy: Input should be less"),
    ],
)
def test_a_mistake_gives_one_message(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message) as raised:
        Lagrangian.model_validate(settings)
    assert raised.value.error_count() == 1
