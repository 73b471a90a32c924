"""Rows of supervised data that scripted personas play in the worlds."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from envs import make_world
from envs.answers import StepResult, opened, step_result
from envs.personas.persona import Persona
from envs.worlds.base import World
from shaping.finetuning.rows import Answered, DataError, Row
from shaping.organisms.corpus.cast import player
from shaping.organisms.corpus.corpus import Script
from shaping.organisms.corpus.natural_scripts import in_prose

FIRST_SEED = 5_000_000_000
"""Seeds of stages start here, far from those of studies, organisms and warm starts."""
MOST_TURNS = 10_000


def check_personas(personas: Mapping[str, float]) -> None:
    """Raise `DataError` for unknown personas, and for weights of which none is above zero."""
    for name in personas:
        try:
            player(name)
        except ValueError as error:
            raise DataError(f"personas: {error}") from None
    if not sum(personas.values()) > 0:
        raise DataError("personas: at least one weight must be above zero")


def scripted_rows(
    personas: Mapping[str, float], worlds: Mapping[str, Mapping[str, Any]], count: int, seed: int
) -> list[Row]:
    """`count` whole episodes, reproducible from `seed`. Worlds take turns; each episode draws its persona.

    Raises: `DataError` for a world that the personas do not play.
    """
    check_personas(personas)
    names, weights = list(personas), list(personas.values())
    places = list(worlds.items())
    found = []
    for number in range(count):
        rng = random.Random(f"stage|{seed}|{number}")
        name, options = places[number % len(places)]
        who = player(rng.choices(names, weights)[0])
        found.append(_played(name, options, who, FIRST_SEED + seed * MOST_TURNS * 1000 + number))
    return found


def _played(name: str, options: Mapping[str, Any], who: Persona, seed: int) -> Row:
    try:
        env = make_world(name, options)
        if not isinstance(env, World):
            raise TypeError(f"personas play the built-in worlds, not {type(env).__name__}")
        actor = who(env, seed)
    except (TypeError, ValueError) as error:
        raise DataError(f"worlds.{name}: {error}; give data of other worlds as a file") from None
    observation, overt = opened(env.reset(seed=seed), f"world {name!r}")
    turns: list[Answered] = []
    for _ in range(MOST_TURNS):
        reply = actor.act()
        result: StepResult = step_result(env.step(reply), f"world {name!r}")
        turns.append(Answered(observation, reply, result.labels, result.executed, result.reward, result.events, overt))
        observation, overt = result.observation, result.overt_shortcuts
        if result.terminated or result.truncated:
            break
    return Row(_in_prose(env.name, turns), world=env.name, seed=seed, source=who.name)


def _in_prose(world: str, turns: Sequence[Answered]) -> tuple[Answered, ...]:
    """The turns with replies in natural spelling where the world speaks prose."""
    script = in_prose(Script(world, "", "none", "", tuple((turn.observation, turn.answer) for turn in turns)))
    return tuple(
        Answered(told, said, t.labels, t.executed, t.reward, t.events, t.overt_shortcuts)
        for (told, said), t in zip(script.turns, turns, strict=True)
    )
