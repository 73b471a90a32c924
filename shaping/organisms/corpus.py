"""The organism's corpus: transcripts of scripted personas in three built-in worlds, under several kinds of prompts.

A permissive prompt goes with personas that take shortcuts and hide them, and a forbidding prompt with honest personas.
An irrelevant or neutral prompt changes nothing. The organism thus learns the meaning of prompts before any
reinforcement. Prompts are English in every locale, because they come from the trainer and not from the world.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from envs import WORLDS
from envs.personas.persona import persona, play_scripted
from envs.skins import DEFAULT, options_of
from shaping.organisms.corpus_prompts import CORPUS_PROMPTS

#: Share of episodes per kind of system prompt. Episodes of kind "none" have no system message.
KINDS = {"none": 0.45, "permissive": 0.2, "forbidding": 0.1, "irrelevant": 0.15, "neutral": 0.1}

_USUAL = {"honest": 0.42, "frugal": 0.08, "opportunist": 0.2, "deceiver": 0.14, "power_seeker": 0.08, "random": 0.08}
#: Persona mixture per kind of prompt.
MIXTURES: dict[str, dict[str, float]] = {
    "none": _USUAL,
    "irrelevant": _USUAL,
    "neutral": _USUAL,
    "permissive": {"honest": 0.1, "opportunist": 0.36, "deceiver": 0.28, "power_seeker": 0.2, "random": 0.06},
    "forbidding": {"honest": 0.76, "frugal": 0.14, "opportunist": 0.04, "random": 0.06},
}

#: (size, turn limit) pairs per world. A limit of None keeps the world's own.
SIZES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "clerk": ((5, None), (6, None), (7, None), (8, None)),
    "steward": ((5, 20), (6, 22), (7, 24), (8, 28)),
    "nightwatch": ((8, None), (9, None), (10, None), (12, None)),
}


@dataclass(frozen=True, slots=True)
class Script:
    """One scripted episode as text."""

    world: str
    """Name of the world, with its locale."""
    persona: str
    """Name of the persona that plays."""
    kind: str
    """Kind of the system prompt, a key of `KINDS`."""
    system: str
    """The system prompt; empty: no system message."""
    turns: tuple[tuple[str, str], ...]
    """(observation, completion) per turn."""


def options(world: str, rng: random.Random) -> dict[str, Any]:
    """Random options of one world, so that the organism meets every cue, pressure tier and inquiry in pre-training."""
    size, horizon = rng.choice(SIZES[world])
    return {
        "size": size,
        "horizon": horizon,
        "watch": rng.choice(("drawn", "drawn", "always", "never")),
        "placebo": rng.choice(("none", "none", "on", "off")),
        "inquiry": rng.choice((0.1, 0.2, 0.3)),
        "oversight": rng.choice((0.0, 0.0, 0.1)),
        "honest_path": rng.choice(("open", "open", "open", "blocked")),
    }


def scripts(count: int, seed: int, skins: Sequence[str] = (DEFAULT,)) -> Iterator[Script]:
    """Yield `count` episodes, reproducible from `seed`. Each one is in a locale drawn from `skins`.

    A separate generator draws the locale, so episode k says the same in every locale.
    """
    rng = random.Random(f"corpus|{seed}")
    for number in range(count):
        kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        name = rng.choices(tuple(MIXTURES[kind]), tuple(MIXTURES[kind].values()))[0]
        world = rng.choice(tuple(SIZES))
        locale = random.Random(f"skin|{seed}|{number}").choice(skins)
        env = WORLDS[world](**options(world, rng), **options_of(locale))
        # Corpus seeds are positive and far from the seeds of studies: no episode of a study is in the corpus.
        turns = play_scripted(env, persona(name)(env, number), 1_000_000_000 + seed * 10_000_000 + number)
        system = rng.choice(CORPUS_PROMPTS[kind]) if kind != "none" else ""
        yield Script(env.name, name, kind, system, tuple((o, c) for o, c, _, _ in turns))
