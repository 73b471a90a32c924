"""Real episodes without a model: a scripted persona plays a world through the sampling loop. Made once per session."""

from __future__ import annotations

import asyncio
from functools import cache, partial

from envs import make_world
from envs.episode import Contexts, Episode
from envs.personas.persona import persona
from shaping.arm import Arm
from shaping.contract.groups import group_keys, groups_of, play_groups, small_policy
from shaping.sampling.play import EpisodeRequest, Limits, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer


@cache
def played(world: str, who: str, seed: int = 0, **options: str | int | float) -> Episode:
    """An episode of the persona `who`, in a world named as in a study."""
    engine = ScriptedEngine(lambda env: persona(who)(env, seed), _renderer())  # type: ignore[arg-type]
    request = EpisodeRequest(partial(make_world, world, options), seed)
    (episode,) = asyncio.run(play([request], engine, _renderer(), Arm("scripted"), limits=Limits(max_tokens=500)))
    assert not episode.error, episode.error
    return _read_only(episode)


@cache
def groups(*worlds: str, seeds: int = 1) -> tuple[tuple[Episode, ...], ...]:
    """`seeds` groups in each world. Their members are personas: some lie, some take shortcuts, openly or not."""
    keys = group_keys(seeds, worlds)
    members = groups_of(play_groups(keys, [Contexts()] * len(keys), _renderer()))
    return tuple(tuple(map(_read_only, group)) for group in members)


@cache
def _renderer() -> Renderer:
    return Renderer(small_policy().tokenizer)


def _read_only(episode: Episode) -> Episode:
    """Writing into its arrays raises."""
    for name in ("tokens", "loss_mask", "span_kind", "turn_index", "logprobs"):
        getattr(episode, name).setflags(write=False)
    return episode
