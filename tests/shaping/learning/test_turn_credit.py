"""Turn-level credit on its way from episodes to tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from envs.episode import Episode
from shaping.arm import compose
from shaping.hooks import Group
from shaping.intervention import Constraint, Intervention, Shaper
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.sampling.text.render import Renderer

REWARDS = ((0.0, 1.0), (0.0, 3.0), (2.0, 0.0), (0.0, 0.0))
BY_TURN = ([-1, -1], [1, 1], [1, 0], [-1, 0])
"""Returns to go [1, 1], [3, 3] and [2, 0], [0, 0], each less the mean of its pair."""


@pytest.fixture
def credit(renderer: Renderer, make_episode: Callable[..., Episode]) -> Callable[..., Credited]:
    def assign(*interventions: Intervention, **options: Any) -> Credited:
        episodes = [make_episode(r, group=n // 2, seed=n // 2) for n, r in enumerate(REWARDS)]
        rewards = [np.array(r) for r in REWARDS]
        return assign_credit(episodes, rewards, compose("arm", interventions), renderer, **options)

    return assign


def by_turn(found: Credited) -> list[list[float]]:
    """Two sampled tokens in each of two turns."""
    for sample in found.samples:
        inside = sample.advantage[sample.mask].reshape(2, 2)
        assert_array_equal(inside[:, 0], inside[:, 1], err_msg="tokens of one turn share its advantage")
        assert not sample.advantage[~sample.mask].any()
    return [s.advantage[s.mask].reshape(2, 2)[:, 0].tolist() for s in found.samples]


def test_every_token_gets_the_advantage_of_its_turn(credit: Callable[..., Credited]) -> None:
    found = credit(algorithm="dr_grpo", level="turn")
    assert_allclose(by_turn(found), BY_TURN)
    assert_allclose(found.advantages, [-1, 1, 0.5, -0.5])
    assert_array_equal(found.credit, found.advantages, err_msg="without interventions nothing is added to it")
    assert_array_equal(found.returns, [1, 3, 2, 0])


class Price(Constraint):
    def cost(self, episode: Episode) -> Any:
        return np.array([1.0, 1.0]) if episode.proxy_return == 3.0 else np.zeros(2)


def test_a_cost_is_credited_from_its_turn_on_as_the_reward_is(credit: Callable[..., Credited]) -> None:
    found = credit(Price(weight=0.5), algorithm="dr_grpo", level="turn")
    assert_allclose(by_turn(found), ([-0.5, -0.75], [0.5, 0.75], *BY_TURN[2:]))
    assert_array_equal(found.costs, [0, 2, 0, 0])
    assert_allclose(found.advantages, [-1, 1, 0.5, -0.5], err_msg="the audit needs the advantage before any cost")


def test_cost_is_in_the_units_of_reward_in_every_algorithm(credit: Callable[..., Credited]) -> None:
    found = credit(Price(weight=0.5), algorithm="rloo")
    assert_allclose(found.credit, np.array([-2, 2, 2, -2]) - 0.5 * np.array([-2, 2, 0, 0]))
    scaled = credit(Price(weight=0.5), algorithm="reinforce_pp")
    assert_allclose(scaled.credit, np.array([-1, 1, 1, -1]) - 0.5 * np.array([-1, 1, 0, 0]), rtol=1e-6)


class Notes(Shaper):
    model_config = {"frozen": False}
    seen: Sequence[Any] = ()

    def credit(self, group: Group) -> None:
        self.seen = [*self.seen, *group.advantages.tolist()]


def test_interventions_see_the_mean_advantage_of_an_episode(credit: Callable[..., Credited]) -> None:
    notes = Notes()
    credit(notes, algorithm="dr_grpo", level="turn")
    assert_allclose(notes.seen, [-1, 1, 0.5, -0.5])
