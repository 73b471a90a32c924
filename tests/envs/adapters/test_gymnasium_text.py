"""gymnasium environments with text: actions outside of their space are invalid, their answers are checked."""

from __future__ import annotations

from typing import Any

import foreign_games  # noqa: F401  (registers the doors)
import pytest
from gymnasium.spaces import Box

from envs.adapters.foreign import ForeignEnvError
from envs.adapters.gymnasium_text import GymnasiumText
from envs.check import check_env, require


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
