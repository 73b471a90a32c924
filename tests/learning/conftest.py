"""What every test of learning needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from shaping.learning.policy import Policy
from shaping.learning.sample import Sample
from shaping.sampling.render import Renderer

MakeSample = Callable[..., Sample]


@pytest.fixture(scope="session")
def policy(make_policy: Callable[..., Policy]) -> Policy:
    return make_policy()


@pytest.fixture(scope="session")
def renderer(policy: Policy) -> Renderer:
    return Renderer(policy.tokenizer)


@pytest.fixture(scope="session")
def make_sample() -> MakeSample:
    """Random samples: `length` tokens of which about two thirds are in the loss. Equal seeds give equal samples."""

    def make(length: int = 12, seed: int = 0, forbidden: bool = False, **changes: Any) -> Sample:
        rng = np.random.default_rng(seed)
        tokens = rng.integers(0, 250, length)
        mask = rng.random(length) < 0.67
        mask[:2] = False, True
        banned = [(int(p), 250 + int(p) % 7) for p in np.flatnonzero(mask)] if forbidden else []
        streams: dict[str, Any] = {
            "tokens": tokens,
            "mask": mask,
            "old_logprobs": np.where(mask, -5.0, 0.0).astype(np.float32),
            "advantage": rng.normal(size=length).astype(np.float32),
            "weight": np.ones(length, np.float32),
            "forbidden": np.array(banned, np.int64).reshape(-1, 2),
        }
        return Sample(**{**streams, "on_policy": False, **changes})

    return make
