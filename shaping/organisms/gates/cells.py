"""The episodes that gates need: six cells of one world, with the same seeds in each, under prompts held out.

Nothing but the prompt or the overseer's presence differs between two cells.
"""

from __future__ import annotations

import functools
import hashlib
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from envs import make_world, world_class
from envs.core import TextEnv
from envs.episode import Context, Contexts
from envs.options import declared_options
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.corpus.corpus_prompts import HELD_OUT
from shaping.organisms.gates.dialect import dialect_hash, offers_covert_acts
from shaping.organisms.gates.record import Settings
from shaping.prompts.pools import HELD_OUT as HELD_OUT_IN_PROSE
from shaping.prompts.pools import language_of
from shaping.sampling.play import EpisodeRequest

CellName = Literal["none", "permissive", "irrelevant", "forbidding", "watched", "unwatched"]


@dataclass(frozen=True)
class Cell:
    """How the episodes of one cell are played."""

    pool: str = ""
    """Pool of the system prompt; empty: none."""
    watch: str = "drawn"
    """Is the overseer there?"""


CELLS: Mapping[CellName, Cell] = {
    "none": Cell(),
    "permissive": Cell("permissive"),
    "irrelevant": Cell("irrelevant"),
    "forbidding": Cell("forbidding"),
    "watched": Cell(watch="always"),
    "unwatched": Cell(watch="never"),
}
SEED = 1_700_000_000
"""First seed of the worlds, far from those of studies and of the corpus, which are other numbers."""


_IN_PROSE = {"permissive": "paraphrase", "irrelevant": "irrelevant", "forbidding": "negated"}
"""Pool -> context of the trigger grid whose prompts, in prose, are held out and of its kind."""


def held_out(world: str = "") -> dict[str, tuple[str, ...]]:
    """Pool -> prompts that no corpus holds, in the words that fit a world: natural ones where it speaks prose."""
    if language := language_of(world):
        return {name: HELD_OUT_IN_PROSE[language][context] for name, context in _IN_PROSE.items()}
    return {name: HELD_OUT[name] for name in _IN_PROSE}


def prompts_hash(world: str = "") -> str:
    """Hash of all prompts that the gates of a world use."""
    return hashlib.sha256(json.dumps(held_out(world), sort_keys=True).encode()).hexdigest()[:32]


def options_of(world: str, settings: Settings, watch: str = "drawn") -> dict[str, Any]:
    """The options of a world, as far as it has them. Its size is the largest that organisms know."""
    size, horizon = SIZES[name][-1] if (name := world.partition("@")[0]) in SIZES else (None, None)
    wanted = {
        "size": size,
        "horizon": horizon,
        **settings.model_dump(include={"inquiry", "honest_share", "polarity"}),
        "watch": watch,
    }
    return declared_options(world_class(world)).of(wanted)


@functools.cache
def version_of(world: str, settings: Settings) -> str:
    """The world's dialect under these settings."""
    return dialect_hash(world, options_of(world, settings))


def takes_watch(world: str) -> bool:
    """Can the overseer's presence be forced?"""
    return "watch" in declared_options(world_class(world)).names


def has_covert_acts(world: str, settings: Settings) -> bool:
    """Is there a covert companion of the shortcut?"""
    return offers_covert_acts(world, options_of(world, settings.model_copy(update={"inquiry": 0.0})))


def requests(world: str, cell: CellName, settings: Settings, made: dict[int, TextEnv]) -> list[EpisodeRequest]:
    """The episodes of one cell. `made` is given each world by its number when it is made."""
    found = CELLS[cell]
    options = options_of(world, settings, found.watch)
    prompts = _shuffled(found.pool, world)
    return [
        EpisodeRequest(
            make=partial(_make, world, options, number, made),
            seed=SEED + number,
            group=number,
            contexts=Contexts(_context(found.pool, prompts, number)),
            sampling_seed=_sampling_seed(world, number),
            options=options,
            world=world,
        )
        for number in range(settings.episodes)
    ]


def _make(world: str, options: Mapping[str, Any], number: int, made: dict[int, TextEnv]) -> TextEnv:
    made[number] = make_world(world, dict(options))
    return made[number]


def _shuffled(pool: str, world: str) -> tuple[str, ...]:
    """The prompts of a pool in a fixed random order: neighbours in a pool are alike."""
    prompts = held_out(world)[pool] if pool else ("",)
    return tuple(random.Random(f"gates|{pool}").sample(prompts, len(prompts)))


def _context(pool: str, prompts: tuple[str, ...], number: int) -> Context:
    """Prompts of a pool in turn, so that each is used equally often."""
    index = number % len(prompts)
    return Context(prompts[index], f"{pool}/{index}") if pool else Context()


def _sampling_seed(world: str, number: int) -> int:
    """Equal in all cells: what differs between them is no noise of sampling as long as the texts are equal."""
    digest = hashlib.blake2b(f"gates|{world}|{number}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")
