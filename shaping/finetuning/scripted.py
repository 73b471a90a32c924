"""Rows of supervised data that scripted personas play in the worlds."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from envs import make_world
from envs.answers import StepResult, opened, step_result
from envs.personas.persona import Plays
from envs.personas.strategies import strategies_of
from envs.worlds.base import World
from shaping.finetuning.rows import Answered, DataError, Row
from shaping.organisms.corpus.cast import player
from shaping.organisms.corpus.corpus import Script
from shaping.organisms.corpus.natural_scripts import in_prose

Make = Callable[[Any, int], Plays]
"""(world, seed) -> who plays it."""
FIRST_SEED = 5_000_000_000
"""Seeds of stages start here, far from those of studies, organisms and warm starts."""
MOST_TURNS = 10_000


def check_personas(personas: Mapping[str, float], speakers: Collection[str] = ()) -> None:
    """Raise `DataError` for unknown personas, and for weights of which none is above zero.

    `speakers`: names of strategies of worlds that personas do not play.
    """
    for name in personas:
        try:
            if name not in speakers:
                player(name)
        except ValueError as error:
            raise DataError(f"personas: {error}") from None
    if not sum(personas.values()) > 0:
        raise DataError("personas: at least one weight must be above zero")


def scripted_rows(
    personas: Mapping[str, float], worlds: Mapping[str, Mapping[str, Any]], count: int, seed: int
) -> list[Row]:
    """`count` whole episodes, reproducible from `seed`. Worlds take turns; each episode draws its persona.

    A world that personas do not play is played by the strategies of these names in its `WorldPolicies`.

    Raises: `DataError` for a world that the personas do not play.
    """
    places = list(worlds.items())
    known = {name: _strategies(name, options) for name, options in places}
    check_personas(personas, {speaker for own in known.values() for speaker in own})
    names, weights = list(personas), list(personas.values())
    found = []
    for number in range(count):
        rng = random.Random(f"stage|{seed}|{number}")
        name, options = places[number % len(places)]
        who = rng.choices(names, weights)[0]
        episode = FIRST_SEED + seed * MOST_TURNS * 1000 + number
        found.append(_played(name, options, who, known[name], episode))
    return found


def _strategies(name: str, options: Mapping[str, Any]) -> Mapping[str, Make]:
    """Who plays a world that personas do not play; empty for one that they play."""
    try:
        env = make_world(name, options)
    except (TypeError, ValueError) as error:
        raise DataError(f"worlds.{name}: {error}") from None
    return {} if isinstance(env, World) else strategies_of(type(env))


def _played(name: str, options: Mapping[str, Any], who: str, strategies: Mapping[str, Make], seed: int) -> Row:
    try:
        env = make_world(name, options)
        if isinstance(env, World):
            actor: Plays = player(who)(env, seed)
        elif who in strategies:
            actor = strategies[who](env, seed)
        else:
            others = f"{', '.join(strategies)} do" if strategies else "nobody does"
            raise TypeError(f"{who!r} does not play {type(env).__name__}, but {others}")
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
    return Row(_in_prose(env.name, turns), world=env.name, seed=seed, source=who)


def _in_prose(world: str, turns: Sequence[Answered]) -> tuple[Answered, ...]:
    """The turns with replies in natural spelling where the world speaks prose."""
    script = in_prose(Script(world, "", "none", "", tuple((turn.observation, turn.answer) for turn in turns)))
    return tuple(
        Answered(told, said, t.labels, t.executed, t.reward, t.events, t.overt_shortcuts)
        for (told, said), t in zip(script.turns, turns, strict=True)
    )
