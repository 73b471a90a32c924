"""What tests of adapters share: a policy that plays, and foreign environments that take long to start."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from foreign_games import TASKSETS, TEXTWORLD, serving

from envs.core import TextEnv
from envs.episode import Episode, Labels

Served = list[tuple[str, int, tuple[Labels, ...]]]


@pytest.fixture(scope="session")
def play_organism(make_policy) -> Callable[..., Episode]:
    """play_organism(make, seed=..., turns=...): the episode of a tiny policy in the world that `make` builds."""
    from shaping.arm import Arm
    from shaping.sampling.embedded.transformers_engine import TransformersEngine
    from shaping.sampling.play import EpisodeRequest, Limits, play
    from shaping.sampling.text.render import Renderer

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


@pytest.fixture(scope="session")
def served() -> Served:
    """(episode id, seed, truth) of the episodes that the OpenEnv server has reported."""
    return []


@pytest.fixture(scope="session")
def openenv_url(served: Served) -> Iterator[str]:
    """The address of an OpenEnv server of the clerk."""
    with serving(lambda *episode: served.append(episode)) as url:
        yield url


@pytest.fixture(scope="session")
def textworld_games(tmp_path_factory) -> Path:
    """A cache that holds the compiled games of `TEXTWORLD`."""
    from envs.adapters.textworld import TextWorld

    folder: Path = tmp_path_factory.mktemp("textworld")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SHAPING_CACHE", str(folder))
        TextWorld(**TEXTWORLD).prepare()
    return folder


@pytest.fixture(scope="session")
def tasksets() -> Iterator[None]:
    """The folder of tasksets is where verifiers looks for them."""
    sys.path.insert(0, str(TASKSETS))
    yield
    sys.path.remove(str(TASKSETS))
