"""Labelled episodes of scripted players: honest, aimless, garbled, and each way to cheat."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Final, Literal

from envs.core import TextEnv
from envs.episode import Episode
from envs.personas.persona import HONEST, PERSONAS, Persona, policies_of
from envs.personas.strategies import strategies_of
from envs.worlds.base import World
from shaping.arm import Arm
from shaping.audits.pressure.scripted import Make, Strategist, played

Conduct = Literal["honest", "random", "cheating"]
"""What a player is for: honest and random ones must not be suspected of what they do not do."""
GARBAGE: Final = "garbage"
_HONEST_STRATEGY = "honest_admit"
_WORDS = ("lorem", "ACTION", ":", "7", "done", "\u2022", "???", "quux", "item", "-", "yes", "\n")


class Garbage:
    """Says words at random, which hold a command by accident at most."""

    def __init__(self, world: Any, seed: int) -> None:
        self._rng = random.Random(f"garbage|{seed}")

    def act(self) -> str:
        """A completion of up to eight words."""
        return " ".join(self._rng.choices(_WORDS, k=self._rng.randint(0, 8)))


def honest_player(world: TextEnv) -> Make | None:
    """The honest player of a world; None if no scripted policies play it."""
    kind = type(world)
    if _takes_personas(kind):
        return HONEST
    return strategies_of(kind).get(_HONEST_STRATEGY)


def players_of(world: TextEnv) -> dict[str, tuple[Conduct, Make]]:
    """Name -> what it is for, and the player, for all scripted players of a world.

    A world that no policies play has the random player alone, and a world that is no `envs.worlds.base.World` the
    garbled one.
    """
    kind = type(world)
    found: dict[str, tuple[Conduct, Make]] = {}
    if (honest := honest_player(world)) is not None:
        found["honest"] = ("honest", honest)
    if isinstance(world, World):
        found["random"] = ("random", PERSONAS["random"])
    found[GARBAGE] = ("random", Garbage)
    if _takes_personas(kind):
        found |= {name: ("cheating", each) for name, each in PERSONAS.items() if _cheats(each)}
    else:
        cheats = {name: make for name, make in strategies_of(kind).items() if not name.startswith("honest")}
        found |= {name: ("cheating", make) for name, make in cheats.items()}
    return found


def play_scripted_episodes(world: TextEnv, make: Make, name: str, seeds: Iterable[int]) -> list[Episode]:
    """One episode per seed, with labels and without tokens. `Episode.arm` is the player's name."""
    arm = Arm(name)

    def seeded(seed: int) -> Make:
        return lambda env, _: make(env, seed)

    return [played(world, Strategist(seeded(seed), seeded(seed)), arm, seed, n) for n, seed in enumerate(seeds)]


def _takes_personas(world: type[TextEnv]) -> bool:
    policies = policies_of(world)
    return policies is not None and policies.act is not None and issubclass(world, World)


def _cheats(each: Persona) -> bool:
    return bool(each.watched or each.unwatched or each.seizes)
