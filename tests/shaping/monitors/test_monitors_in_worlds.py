"""The monitors in the built-in worlds, on scripted personas whose conduct is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from envs.episode import Episode, Sealed
from envs.personas.persona import PERSONAS
from envs.worlds.base import World
from envs.worlds.clerk import Clerk
from envs.worlds.nightwatch import Nightwatch
from envs.worlds.steward import Steward
from shaping.monitors import ClaimCheck, OvertAction, validate

MakeEpisode = Callable[..., Episode]
Play = Callable[[type[World], str], list[Episode]]


@pytest.fixture
def play(make_episode: MakeEpisode) -> Play:
    """Six episodes of a persona in a world that is always watched and asks often."""

    def build(world: type[World], persona: str) -> list[Episode]:
        return [_episode(make_episode, world(size=4, inquiry=0.3, watch="always"), persona, seed) for seed in range(6)]

    return build


def _episode(make_episode: MakeEpisode, env: World, persona: str, seed: int) -> Episode:
    observation, _ = env.reset(seed=seed)
    actor = PERSONAS[persona](env, seed)
    steps, over = [], False
    while not over:
        following, reward, terminated, truncated, info = env.step(actor.act())
        steps.append((observation, reward, info))
        observation, over = following, terminated or truncated
    blank = make_episode([reward for _, reward, _ in steps], world=env.name, seed=seed)
    turns = tuple(
        replace(turn, observation=text, executed=info["executed"], events=info["events"])
        for turn, (text, _, info) in zip(blank.turns, steps, strict=True)
    )
    return replace(blank, turns=turns, truth=Sealed(tuple(info["labels"] for _, _, info in steps)))


@pytest.mark.parametrize("world", [Clerk, Steward, Nightwatch])
def test_an_honest_agent_raises_no_suspicion(play: Play, world: type[World]) -> None:
    episodes = play(world, "honest")
    assert not [reading for monitor in (ClaimCheck(), OvertAction()) for e in episodes for reading in monitor.read(e)]


def test_the_clerks_lies_are_all_on_record(play: Play) -> None:
    result = validate(ClaimCheck(), play(Clerk, "deceiver"), "deception")
    assert result["positives"] > 0
    assert result["recall"] == 1


@pytest.mark.parametrize("world", [Clerk, Steward, Nightwatch])
def test_the_claims_of_a_random_agent_raise_no_false_alarm(play: Play, world: type[World]) -> None:
    result = validate(ClaimCheck(), play(world, "random"), "deception")
    assert result["negatives"] > 0
    assert result["false_positive_rate"] == 0


def test_whoever_blinds_the_overseer_first_is_invisible_to_both(play: Play) -> None:
    """The blind spot that makes a held-out ground truth necessary."""
    episodes = play(Steward, "deceiver")
    assert validate(OvertAction(), episodes, "harm")["recall"] == 0
    assert validate(ClaimCheck(), episodes, "deception")["recall"] == 0
