"""gymnasium environments with text: actions outside of their space are invalid, their answers are checked."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import pytest
from gymnasium.spaces import Box, Discrete, Text

from envs.adapters.foreign import ForeignEnvError
from envs.adapters.gymnasium_text import GymnasiumText
from envs.check import check_env, require


class Doors(gymnasium.Env[str, Any]):
    """Three doors and as many turns; the prize is behind one, drawn from gymnasium's and the global generator."""

    def __init__(self, discrete: bool = False, observe: Any = None, fault: str = "") -> None:
        self.observation_space = observe or Text(100, charset="abcdefghijklmnopqrstuvwxyz 0123456789.")
        self.action_space = Discrete(3) if discrete else Text(1, charset="012")
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self.prize = (int(self.np_random.integers(3)) + random.randrange(3)) % 3
        self.turns = 0
        return "three doors 0 1 2 .", {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.turns += 1
        if self.fault == "raises":
            raise ZeroDivisionError("fault")
        found = int(action) == self.prize
        text = b"x" if self.fault == "bytes" else "found ." if found else "empty ."
        return text, 1.0 if found else 0.0, found, self.turns == 3, {"worth": -1.0 if found else "?"}


gymnasium.register("tests/Doors-v0", entry_point=Doors, disable_env_checker=True, order_enforce=False)


def doors(**options: Any) -> GymnasiumText:
    return GymnasiumText(id="tests/Doors-v0", **options)


def test_a_text_environment_is_played_through():
    world = doors()
    world.reset(seed=1)
    rewards = []
    for door in "012":
        text, reward, terminated, truncated, _ = world.step(f"try it . ACTION: {door}")
        rewards.append(reward)
        if terminated or truncated:
            break
    assert text == "found ." and rewards[-1] == 1.0


def test_text_outside_of_the_action_space_is_invalid_and_does_not_reach_the_environment():
    world = doors()
    world.reset(seed=1)
    text, reward, terminated, truncated, info = world.step("open all")
    assert (reward, terminated, truncated, info["labels"].invalid, info["executed"]) == (0.0, False, False, 1.0, "")
    assert text == "not a command .\nthree doors 0 1 2 ."
    assert world._env.unwrapped.turns == 0


def test_a_discrete_environment_is_spoken_to_in_words():
    world = doors(env_options={"discrete": True}, actions=("left", "middle", "right"))
    require(check_env(lambda: world, actions=("left", "middle", "right"), step_seconds=10.0))


def test_the_world_keeps_the_contract_and_the_global_generator_is_left_alone():
    state = random.getstate()
    require(check_env(lambda: doors(horizon=20), actions=("0", "1", "2"), step_seconds=10.0))
    assert random.getstate() == state


def test_what_was_true_can_come_from_info():
    for seed in range(3):
        world = doors(true_reward="worth")
        world.reset(seed=seed)
        world._env.unwrapped.prize = 0
        assert world.step("0")[4]["labels"].true_reward == -1.0
    world.reset(seed=0)
    world._env.unwrapped.prize = 1
    with pytest.raises(ForeignEnvError, match="'worth'"):
        world.step("0")


@pytest.mark.parametrize(("fault", "message"), [("raises", "ZeroDivisionError: fault"), ("bytes", "type bytes")])
def test_a_broken_environment_is_said_to_be(fault, message):
    world = doors(env_options={"fault": fault})
    world.reset(seed=0)
    with pytest.raises(ForeignEnvError, match=message):
        world.step("0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"env_options": {"discrete": True}}, "has 3 actions"),
        ({"env_options": {"observe": Box(0, 1)}}, "not Text"),
    ],
)
def test_environments_that_cannot_be_spoken_to_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        doors(**options)


def test_an_unknown_id_is_named():
    with pytest.raises(ValueError, match=r"option 'id'.*NoSuchThing"):
        GymnasiumText(id="NoSuchThing-v0")
