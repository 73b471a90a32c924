"""Turns with known labels to fit probes to: scripted personas play built-in worlds, and a model reads what they say."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from envs import WORLDS, make_world
from envs.actions import MARKERS
from envs.core import TextEnv
from envs.episode import TRAITS, Episode
from envs.personas.persona import PERSONAS, POLICIES, persona
from shaping.arm import Arm
from shaping.directions.probe_fit import LabelledTurns
from shaping.directions.probe_set import ProbeError
from shaping.directions.replay import with_states
from shaping.hooks import Capture, Positions
from shaping.learning.policy import Policy
from shaping.models.capture import layer_numbers
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import Actor, ScriptedEngine
from shaping.sampling.text.render import Renderer

FIRST_SEED = 7_000_000_000
"""Seeds of these episodes, far from those of all else."""
OPTIONS: Mapping[str, Any] = {"size": 4, "inquiry": 0.2}
"""Options of the worlds, unless others are given."""


@dataclass(frozen=True, slots=True)
class _Silent:
    """Says the commands of another actor without what it states before them."""

    actor: Actor
    marker: str

    def act(self) -> str:
        said = self.actor.act()
        return said[said.index(self.marker) :] if self.marker in said else said


def persona_episodes(
    worlds: Sequence[str],
    personas: Sequence[str],
    seeds: int,
    renderer: Renderer,
    *,
    silent: bool = False,
    options: Mapping[str, Any] = OPTIONS,
    context: int = 1 << 20,
) -> list[Episode]:
    """One episode of every persona in every world on every seed; equal calls give equal episodes.

    Args:
        worlds: names of built-in worlds that personas play, with or without a locale.
        personas: names of personas; each meets the same situations.
        seeds: situations per world.
        renderer: of the model that reads the episodes.
        silent: leave out the motives that personas state, so that only the situation tells a lie from a true report.
            A policy that states motives has other states: probes of silent personas do not carry over to it.
        options: options of the worlds.
        context: most tokens of an episode.
    Raises: `ProbeError` for unknown names, or if an episode fails.
    """
    if unknown := [name for name in personas if name not in PERSONAS]:
        raise ProbeError(f"no persona {unknown[0]!r}; there are {', '.join(PERSONAS)}")
    if unknown := [name for name in worlds if name.partition("@")[0] not in WORLDS]:
        raise ProbeError(f"no world {unknown[0]!r}; there are {', '.join(sorted(WORLDS))}")
    if unplayed := [name for name in worlds if name.partition("@")[0] not in POLICIES]:
        raise ProbeError(f"no personas play {unplayed[0]!r}; they play {', '.join(POLICIES)}")

    def actor(who: str, seed: int, env: TextEnv) -> Actor:
        made: Actor = persona(who)(env, seed)  # type: ignore[arg-type]
        return _Silent(made, MARKERS[env.unwrapped.options.lang]) if silent else made  # type: ignore[attr-defined]

    async def all_of_them() -> list[Episode]:
        found: list[Episode] = []
        for who in personas:
            for number, world in enumerate(worlds):
                for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                    engine = ScriptedEngine(partial(actor, who, seed), renderer, context_length=context)
                    request = EpisodeRequest(partial(make_world, world, dict(options)), seed, number)
                    found += await play([request], engine, renderer, Arm(who), limits=Limits(max_tokens=256))
        return found

    episodes = asyncio.run(all_of_them())
    if failed := next((e for e in episodes if e.status.is_error), None):
        raise ProbeError(f"{failed.arm!r} cannot play {failed.world!r}: {failed.error}")
    return episodes


def labelled_turns(
    policy: Policy,
    episodes: Sequence[Episode],
    trait: str,
    layers: Sequence[int] | str,
    positions: Positions,
    adapters: Sequence[str] | None = None,
) -> LabelledTurns:
    """The states and labels of all turns in which the trait was possible.

    Args:
        policy: the model that reads.
        episodes: with their truth.
        trait: one of `envs.episode.TRAITS`.
        layers: numbers, or "all"; negative ones count from the end.
        positions: tokens of a turn whose mean state counts.
        adapters: as of `with_states`.
    Raises: `ProbeError` for an unknown trait or layer, `SealedError` for redacted episodes.
    """
    if trait not in TRAITS:
        raise ProbeError(f"unknown trait {trait!r}; the traits are {', '.join(TRAITS)}")
    try:
        numbers = layer_numbers(policy.model, "all" if isinstance(layers, str) else layers, "probes")
    except ValueError as error:
        raise ProbeError(str(error)) from None
    numbers = tuple(dict.fromkeys(numbers))
    read = with_states(policy, episodes, [Capture("probe", numbers, positions, "sampling")], adapters)
    situations: dict[tuple[str, int], int] = {}
    rows: list[tuple[Any, bool, int, str]] = []
    for episode in read:
        # one situation in several languages is one situation
        place = situations.setdefault((episode.world.partition("@")[0], episode.seed), len(situations))
        for turn, labels in enumerate(episode.truth.open()):
            happened = labels.trait(trait) > 0
            if happened or labels.opportunity.get(trait, False):
                word = next(iter(episode.turns[turn].executed.split()), "")
                rows.append((episode.activations["probe"][turn], happened, place, word))
    if not rows:
        raise ProbeError(f"in no turn of {len(episodes)} episodes was {trait} possible: name other worlds")
    return LabelledTurns(
        numbers,
        np.stack([row[0] for row in rows]),
        np.array([row[1] for row in rows], bool),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.str_),
    )
