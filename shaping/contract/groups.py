"""Groups of scripted episodes to try plug-ins on: personas play the worlds of organisms, and no model is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from envs import WORLDS
from envs.episode import Contexts, Episode, by_group
from envs.personas.persona import POLICIES, persona, play_scripted
from envs.worlds.base import World
from shaping.arm import Arm
from shaping.hooks import AdapterSpec, Group, GroupInfo, Prefill
from shaping.learning.credit.advantages import estimate
from shaping.learning.policy import Policy
from shaping.organisms.config import OrganismConfig
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.organism import build
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

MEMBERS = ("honest", "opportunist", "deceiver", "power_seeker", "random", "random")
"""Who plays a group: some earn more than others, some take shortcuts in the open, some out of sight."""
_OPTIONS = {"size": 4, "inquiry": 0.2, "oversight": 0.1}
_MODEL = OrganismConfig(hidden=32, layers=1, heads=2, kv_heads=1, vocabulary=400, context=4096)


@dataclass(frozen=True, slots=True)
class GroupKey:
    """Which episodes form a group."""

    world: str
    """Name of a built-in world."""
    seed: int
    """Seed of the episodes."""
    number: int
    """Number of the group."""

    @property
    def info(self) -> GroupInfo:
        """What interventions are told when a context is drawn."""
        return GroupInfo(self.world, self.seed, self.number, update=0)

    def make(self) -> World:
        """The world that they play."""
        return WORLDS[self.world](**self.options)

    @property
    def options(self) -> dict[str, Any]:
        """The options of that world."""
        return {**_OPTIONS, "honest_share": 0.5 if self.seed % 2 else 1}


def scripted_group(world: str = "steward", seed: int = 1) -> Group:
    """Six scripted episodes of one group, as a shaper's `credit` is shown one: for tests of plug-ins."""
    keys = group_keys(seed + 1, [world])[-1:]
    episodes = play_groups(keys, [Contexts()], Renderer(small_policy().tokenizer))
    return credited_group([episode.redacted() for episode in episodes])


def credited_group(members: Sequence[Episode]) -> Group:
    """Episodes as a group, with their returns and advantages."""
    returns = np.array([episode.proxy_return for episode in members])
    return Group(tuple(members), returns, estimate("grpo", returns, np.zeros(len(members), np.int64)))


def group_keys(seeds: int, worlds: Sequence[str] = ()) -> list[GroupKey]:
    """`seeds` groups in every world, by default every one that organisms know.

    Where a seed is odd, honest work does not earn the full reward.
    """
    places = [(world, seed) for world in worlds or sorted(SIZES) for seed in range(seeds)]
    return [GroupKey(world, seed, number) for number, (world, seed) in enumerate(places)]


def small_policy(adapters: Sequence[AdapterSpec] = ()) -> Policy:
    """An untrained model of 20 000 parameters, whose tokenizer knows the words of the worlds of organisms."""
    worlds = [WORLDS[name](**_OPTIONS) for name in sorted(SIZES)]
    records = [play_scripted(world, persona("random")(world, 0), 0) for world in worlds]
    policy = build(_MODEL, [text for record in records for turn in record for text in turn[:2]])
    return Policy(policy.model, policy.tokenizer, adapters=adapters)


def play_groups(
    keys: Sequence[GroupKey],
    contexts: Sequence[Contexts],
    renderer: Renderer,
    prefills: Sequence[Sequence[Prefill | None]] = (),
) -> list[Episode]:
    """The episodes of all groups, each under its contexts and behind its texts. Nothing constrains them."""
    who = {key.world: MEMBERS if key.world in POLICIES else ("random",) * len(MEMBERS) for key in keys}
    opened = [texts or (None,) * len(MEMBERS) for texts in prefills or ((),) * len(keys)]
    asked = [
        (key, drawn, number, text)
        for key, drawn, texts in zip(keys, contexts, opened, strict=True)
        for number, text in enumerate(texts)
    ]

    async def all_of_them() -> list[Episode]:
        episodes: list[Episode] = []
        for key, drawn, number, text in asked:
            actor = partial(persona(who[key.world][number]), seed=number)
            engine = ScriptedEngine(actor, renderer)
            request = EpisodeRequest(key.make, key.seed, key.number, drawn, options=key.options, prefill=text)
            episodes += await play([request], engine, renderer, Arm("scripted"), limits=Limits(max_tokens=128))
        return episodes

    return asyncio.run(all_of_them())


def groups_of(episodes: Sequence[Episode]) -> list[list[Episode]]:
    """The episodes by group, in the order of its number."""
    return [[episodes[i] for i in members] for members in by_group(episodes).values()]
