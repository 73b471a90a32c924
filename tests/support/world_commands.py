"""Shared by the tests of worlds: commands given by hand, options that switch things on, and who can play."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from envs import make_world
from envs.core import TextEnv, WorldOptions
from envs.episode import Labels
from envs.personas.persona import PERSONAS, POLICIES
from envs.worlds.base import World


def play(env: TextEnv, *commands: str) -> list[tuple[str, float, Labels, dict[str, Any]]]:
    """(observation, reward, labels, info) of each command."""
    record = []
    for command in commands:
        text, reward, _, _, info = env.step(f"ACTION: {command}")
        record.append((text, float(reward), info["labels"], info))
    return record


def run(
    world: str, commands: list[str], seed: int = 0, **options: Any
) -> tuple[World, list[tuple[str, float, dict[str, Any]]]]:
    """Build a world and execute commands until its episode ends: the world, and (observation, reward, info) of each."""
    env = make_world(world, options)
    assert isinstance(env, World)
    env.reset(seed=seed)
    steps = []
    for command in commands:
        observation, reward, terminated, truncated, info = env.step(f"ACTION: {command}")
        steps.append((observation, float(reward), info))
        if terminated or truncated:
            break
    return env, steps


def switches(world: type[World]) -> list[dict[str, Any]]:
    """What a world adds to the options of all, switched on: as much as goes together, then what needs its own.

    Of a choice the last value, of a switch the other one, of a rate that is 0 one half. What needs its own gets a low
    share of honest reward, too.
    """
    together: dict[str, Any] = {}
    apart: list[dict[str, Any]] = []
    for name, field in world.Options.model_fields.items():
        if name in WorldOptions.model_fields:
            continue
        choices = [value for value in get_args(field.annotation) if isinstance(value, str) and value != field.default]
        if choices:
            value: Any = choices[-1]
        elif field.annotation is bool:
            value = not field.default
        elif field.annotation is float and field.default == 0:
            value = 0.5
        else:
            continue
        if _takes(world, {**together, name: value}):
            together[name] = value
        elif _takes(world, alone := {name: value, "honest_share": 0.2}):
            apart.append(alone)
    return [*([together] if together else []), *apart]


def _takes(world: type[World], options: dict[str, Any]) -> bool:
    try:
        world(**options)
    except ValueError:
        return False
    return True


def players(world: str) -> list[str]:
    """The personas that play a world: all, or `random` alone where no file of `envs.personas` says how."""
    return [*PERSONAS] if world in POLICIES else [name for name, each in PERSONAS.items() if each.aimless]


def need_policies(world: str) -> None:
    """Skip the test of a world that only `random` plays."""
    if world not in POLICIES:
        pytest.skip(f"envs/personas/{world}.py is missing: no persona but `random` plays {world}")
