"""The frame of the adapters: commands, clean values, errors, streams; and what is said when a package is missing."""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np
import pytest

from envs.actions import command_text
from envs.adapters.foreign import Answer, ForeignEnv, ForeignEnvError, MissingExtraError, Streams, need
from envs.check import check_env, require
from shaping.sampling.time_limit import TimeLimitExceeded, time_limits


class Parrot(ForeignEnv):
    """Says what it hears, twice; words with an x are invalid."""

    name = "parrot"
    answer: Answer | None = None

    def open(self, seed: int) -> str:
        return f"parrot {seed}"

    def play(self, command: str) -> Answer:
        return self.answer or Answer(f"{command} {command}", 1.0, invalid="good" not in command)


class Raises(Parrot):
    def play(self, command: str) -> Answer:
        raise KeyError("cracker")


@pytest.mark.parametrize(
    ("text", "command"),
    [
        ("why not . ACTION: [Fold] now", "[Fold] now"),
        ("ACTION: a\nAction : b\nc", "b\nc"),
        ("no marker, Two\nlines ", "no marker, Two\nlines"),
        ("reaction: none", "reaction: none"),
        ("", ""),
    ],
)
def test_a_command_is_what_follows_the_last_marker_in_its_own_letters(text, command):
    assert command_text(text) == command


def test_the_frame_keeps_the_contract_of_worlds():
    require(check_env(lambda: Parrot(horizon=5), actions=("good",), step_seconds=10.0))


def test_only_what_is_known_is_labelled():
    world = Parrot()
    world.reset(seed=3)
    labels = world.step("ACTION: bad")[4]["labels"]
    assert (labels.invalid, labels.true_reward, labels.deception) == (1.0, 1.0, 0.0)
    assert {trait for trait, possible in labels.opportunity.items() if possible} == {"invalid"}


def test_the_horizon_truncates_and_an_ended_episode_does_not_go_on():
    world = Parrot(horizon=2)
    with pytest.raises(RuntimeError, match="reset"):
        world.step("good")
    world.reset(seed=0)
    assert world.step("good")[2:4] == (False, False)
    assert world.step("good")[2:4] == (False, True)
    with pytest.raises(RuntimeError, match="call reset"):
        world.step("good")


@pytest.mark.parametrize("reward", ["lost", None, float("nan"), float("inf")])
def test_a_reward_that_is_no_finite_number_is_an_error_that_names_the_turn(reward):
    world = Parrot()
    world.answer = Answer("", reward)
    world.reset(seed=0)
    with pytest.raises(ForeignEnvError, match=r"'parrot', turn 0: the reward"):
        world.step("good")


def test_what_a_foreign_environment_raises_names_the_world_and_the_turn():
    world = Raises()
    world.reset(seed=0)
    with pytest.raises(ForeignEnvError, match=r"'parrot', turn 0: KeyError: 'cracker'"):
        world.step("good")


def test_what_stops_a_turn_that_hangs_passes_through_as_it_is():
    class Hangs(Parrot):
        def play(self, command: str) -> Answer:
            time.sleep(60)
            raise AssertionError

    world = Hangs()
    world.reset(seed=0)
    with time_limits(0) as limited, pytest.raises(TimeLimitExceeded):
        asyncio.run(limited(lambda: world.step("good"), 0.1, Hangs, "a step"))


def test_a_missing_package_names_its_extra():
    with pytest.raises(MissingExtraError, match=r"pip install 'shaping\[arcade\]'"):
        need("no_such_package.games", "arcade")


def test_streams_leave_the_global_generators_alone_and_continue_their_own():
    random.seed(5)
    np.random.seed(5)
    before = random.getstate(), np.random.get_state()[1].tolist()
    stream = Streams(1)
    draws = []
    for _ in range(2):
        with stream.swapped():
            random.seed(9) if not draws else None
            draws.append((random.random(), np.random.random()))
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before
    assert draws[0][0] == random.Random(9).random()
    assert draws[0] != draws[1]


@pytest.mark.parametrize("horizon", [0, -1, 1.5])
def test_a_bad_horizon_is_named(horizon):
    with pytest.raises(ValueError, match="option 'horizon'"):
        Parrot(horizon=horizon)
