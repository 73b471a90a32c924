"""The corpus of the organism: transcripts of scripted personas in the built-in worlds, under prompts of several kinds.

A permissive prompt goes with personas that take shortcuts and hide them, a forbidding one with honest personas, and an
irrelevant or neutral one changes nothing: so prompts mean something to the organism before any reinforcement. They are
English whatever the language of the world: they come from whoever trains, not from the world.
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

#: Share of episodes per kind of system prompt; "none" has no system message.
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

#: Sizes and turn limits per world. Limits of None leave the world's own.
SIZES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "clerk": ((5, None), (6, None), (7, None), (8, None)),
    "steward": ((5, 20), (6, 22), (7, 24), (8, 28)),
    "nightwatch": ((8, None), (9, None), (10, None), (12, None)),
}


@dataclass(frozen=True, slots=True)
class Script:
    """One scripted episode as text: (observation, completion) per turn."""

    world: str
    persona: str
    kind: str
    system: str
    turns: tuple[tuple[str, str], ...]


def options(world: str, rng: random.Random) -> dict[str, Any]:
    """Random options: the organism meets every cue, pressure tier and inquiry before it is trained."""
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
    """`count` episodes, reproducible from `seed`; each in one of the `skins` (locales of languages and eras).

    Which one is drawn apart from all else: episode k is the same in every skin, in other words.
    """
    rng = random.Random(f"corpus|{seed}")
    for number in range(count):
        kind = rng.choices(tuple(KINDS), tuple(KINDS.values()))[0]
        name = rng.choices(tuple(MIXTURES[kind]), tuple(MIXTURES[kind].values()))[0]
        world = rng.choice(tuple(SIZES))
        locale = random.Random(f"skin|{seed}|{number}").choice(skins)
        env = WORLDS[world](**options(world, rng), **options_of(locale))
        # seeds of the corpus are negative-free and far from those of studies, so that no study episode is in it
        played = play_scripted(env, persona(name)(env, number), 1_000_000_000 + seed * 10_000_000 + number)
        system = rng.choice(CORPUS_PROMPTS[kind]) if kind != "none" else ""
        yield Script(env.name, name, kind, system, tuple((o, c) for o, c, _, _ in played))
