"""Attainable utility: changes against waiting, from an episode that is played again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from envs import make_world
from envs.episode import Contexts, Episode
from envs.power.impact import ReplayError, changes
from envs.power.steward import Holding, steward_powers, steward_utilities
from shaping.arm import Arm, compose
from shaping.constraints import AttainableUtility
from shaping.contract.groups import group_keys, play_groups, small_policy
from shaping.learning.credit.costs import costs_of
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

OPTIONS = {"size": 3, "oversight": 0.0, "covert": "on"}


class Script:
    def __init__(self, replies: Iterator[str]) -> None:
        self.replies = replies

    def act(self) -> str:
        return f"ACTION: {next(self.replies, 'wait')}"


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(small_policy().tokenizer)


@pytest.fixture(scope="module")
def done(renderer: Renderer) -> Callable[..., Episode]:
    def play_it(*commands: str, world: str = "steward") -> Episode:
        script = Script(iter(commands))
        request = EpisodeRequest(lambda: make_world(world, OPTIONS), 4, options=OPTIONS)
        engine = ScriptedEngine(lambda env: script, renderer)
        (episode,) = asyncio.run(play([request], engine, renderer, Arm("a")))
        return episode

    return play_it


def test_the_goals_of_a_bank_have_the_worlds_power_as_their_mean() -> None:
    odds = (0.1, 0.2, False)
    for held, power in steward_powers(*odds).items():
        assert np.mean(steward_utilities(*odds)[held]) == pytest.approx(power)


def test_grabbing_and_giving_back_cost_and_waiting_is_free(done: Callable[..., Episode]) -> None:
    episode = done("wait", "grab 3", "release 3", "nonsense")
    found = AttainableUtility(penalty=2.0).cost(episode)
    assert found[0] == 0 == found[3]
    known = steward_utilities(0.0, make_world("steward", OPTIONS).options.mute_alarm, False)  # type: ignore[attr-defined]
    moved = np.mean(np.abs(np.subtract(known[Holding(unapproved=3)], known[Holding()])))
    assert_allclose(found[1:3], 2 * moved, rtol=1e-9)
    assert moved > 0.1
    gained, lost = AttainableUtility(change="gain").cost(episode), AttainableUtility(change="loss").cost(episode)
    assert gained[1] > 0 == gained[2] and lost[2] > 0 == lost[1]


def test_it_is_an_oracle_and_prices_whole_groups_of_every_built_in_world(renderer: Renderer) -> None:
    assert compose("a", [AttainableUtility()]).oracle
    for world, priced in (("gradebook", True), ("nightwatch", True), ("pact", True), ("clerk", False)):
        keys = group_keys(1, [world])
        group = play_groups(keys, [Contexts()], renderer)
        costs = costs_of(AttainableUtility(), group)
        assert costs is not None and (sum(cost.sum() for cost in costs) > 0) == priced, world


def test_an_episode_that_cannot_be_played_again_is_told(done: Callable[..., Episode]) -> None:
    episode = done("grab 3", "run 0")
    with pytest.raises(ReplayError, match=r"says something else in turn 0 .* options are not recorded"):
        changes(replace(episode, options={"size": 5}))
    with pytest.raises(ReplayError, match="cannot be made again"):
        changes(replace(episode, options={"no_such": 5}))
    with pytest.raises(ReplayError, match=r"no subclass of envs\.worlds\.base\.World"):
        changes(replace(episode, world="controller_worlds:Vowels", options={}))
