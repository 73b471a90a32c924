"""An untrained policy that plays one episode in any world."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from envs.core import TextEnv
from envs.episode import Episode


@pytest.fixture(scope="session")
def play_organism(make_policy) -> Callable[..., Episode]:
    """play_organism(make, seed=..., turns=...): the episode of a tiny policy in the world that `make` builds."""
    from shaping.arm import Arm
    from shaping.sampling.play import EpisodeRequest, Limits, play
    from shaping.sampling.render import Renderer
    from shaping.sampling.transformers_engine import TransformersEngine

    policy = make_policy(context=8192)
    renderer = Renderer(policy.tokenizer)

    def run(
        make: Callable[[], TextEnv], *, seed: int = 0, turns: int = 4, options: dict[str, Any] | None = None
    ) -> Episode:
        engine = TransformersEngine(policy.model, renderer, slots=1, context_length=8192)
        limits = Limits(max_tokens=8, max_turns=turns, step_seconds=30.0)
        (episode,) = asyncio.run(
            play([EpisodeRequest(make, seed, options=options or {})], engine, renderer, Arm("test"), limits=limits)
        )
        return episode

    return run
