"""Samples of random tokens for the learner's benchmarks."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shaping.learning.samples.sample import Sample


def random_sample(
    tokens: NDArray[np.int64], mask: NDArray[np.bool_], vocabulary: int, advantage: float = 1.0
) -> Sample:
    """A sample [tokens] that a uniform policy might have drawn. `mask`: its loss tokens."""
    n = len(tokens)
    return Sample(
        tokens=tokens,
        mask=mask,
        old_logprobs=np.full(n, -np.log(vocabulary), np.float32),
        advantage=np.full(n, advantage, np.float32),
        weight=np.ones(n, np.float32),
        masked_tokens=np.zeros((0, 2), np.int64),
        ratio="recomputed",
        on_policy=False,  # random tokens
    )


def multi_turn(rng: np.random.Generator, vocabulary: int, tokens: int, prompt: int = 30) -> Sample:
    """A prompt, then turns of 12 sampled and 12 observed tokens."""
    at = np.arange(tokens)
    mask = (at >= prompt) & ((at - prompt) % 24 < 12)
    return random_sample(rng.integers(0, vocabulary, tokens), mask, vocabulary, rng.normal())
