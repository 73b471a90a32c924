"""Episodes of worlds in skins, told in the worlds' own words."""

from __future__ import annotations

from typing import Any

from world_commands import switches

from envs import WORLDS, make_world
from envs.personas.persona import persona, play_scripted
from envs.worlds.base import World

#: Options under which a world says all that it can say, a few at a time.
FULL: dict[str, Any] = {"size": 4, "inquiry": 0.3, "oversight": 0.3, "placebo": "on"}


def variants(world: str) -> list[dict[str, Any]]:
    return [
        FULL,
        {**FULL, "honest_share": 0.5, "pressure": 1, "placebo": "off", "watch": "always"},
        {**FULL, "aware": "hidden", "pressure": 2, "penalty": 0.25, "escalation": 0.2},
        {**FULL, "honest_share": 0.25, "candour": 0.1, "polarity": "drawn", "covert_cost": 0.05},
        {**FULL, "honest_share": 0, "covert": "off"},
        *({**FULL, "pressure": 3, **own} for own in switches(WORLDS[world])),
    ]


def make(world: str, locale: str, options: dict[str, Any]) -> World:
    env = make_world(f"{world}@{locale}", options)
    assert isinstance(env, World)
    return env


def play(world: str, locale: str, who: str, options: dict[str, Any], seed: int) -> list[Any]:
    """An episode as its world tells it in its own words: what was executed, paid, true, seen by onlookers, removed."""
    env = make(world, locale, options)

    def own(command: str) -> str:
        return env.skin.read(command) if env.skin else command

    return [
        (
            own(info["executed"]),
            reward,
            info["labels"],
            [event._replace(text=own(event.text)) for event in info["events"]],
            tuple(map(own, info["overt_shortcuts"])),
        )
        for _, _, reward, info in play_scripted(env, persona(who)(env, seed), seed)
    ]
