"""Shared prefixes: an update of groups that begin alike, beside the raw packed pass and the learner without sharing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import torch

from benchmarks.learner import LR, SHAPES, TINY, Shape, write_model
from benchmarks.learner_peers import Raw
from benchmarks.random_samples import random_sample
from benchmarks.table import Row, interleaved, main, throughput
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample

BUDGET = 16384
MEMBERS = 8
GROUPS = (("long prompt", 1000, 200), ("the quickstart's lengths", 40, 370))
"""(name, tokens of the prompt, sampled tokens of each member)."""


def group(vocabulary: int, prompt: int, own: int) -> list[Sample]:
    """Members that share a prompt of random tokens and sample random ones."""
    rng = np.random.default_rng(0)
    briefing, length = rng.integers(0, vocabulary, prompt), prompt + own
    mask = np.arange(length) >= prompt
    return [
        random_sample(np.concatenate([briefing, rng.integers(0, vocabulary, own)]), mask, vocabulary, rng.normal())
        for _ in range(MEMBERS)
    ]


def _learner(directory: Path, dtype: str, shared: bool) -> Learner:
    policy = Policy.load(directory, dtype=getattr(torch, dtype))
    return Learner(policy, LearnerConfig(lr=LR, token_budget=BUDGET, shared_prefixes=shared))


def rows_of(shape: Shape, name: str, prompt: int, own: int, repetitions: tuple[int, int]) -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        write_model(shape, directory)
        samples = group(shape.vocabulary, prompt, own)
        tokens, shared = sum(map(len, samples)), prompt + MEMBERS * own
        print(f"{name}: {MEMBERS} sequences of {prompt} + {own} tokens, {tokens / shared:.2f} times those in the row")
        updates = [_learner(directory, shape.dtype, shares).update for shares in (True, False)]
        variants = [*updates, Raw(directory, shape.dtype, BUDGET, LR).update]
        ours, plain, raw = interleaved([lambda u=u: u(samples) for u in variants], *repetitions)  # type: ignore[misc]
        wanted = "ratio >= 2.5" if prompt > own else ""
        arithmetic = f"ratio >= {0.9 * tokens / shared:.3g}"
        return [
            throughput(f"{name}: raw packed pass", "tokens/s", ours, raw, work=tokens, target=wanted),
            throughput(f"{name}: without sharing", "tokens/s", ours, plain, work=tokens, target=arithmetic),
        ]


def benchmark(quick: bool) -> list[Row]:
    """Shared prefixes: an update beside the raw packed pass, and beside the learner without sharing."""
    shape, repetitions = (TINY, (1, 0)) if quick else (SHAPES[2], (4, 1))
    short = 10 if quick else 1
    return [
        row for name, prompt, own in GROUPS for row in rows_of(shape, name, prompt // short, own // short, repetitions)
    ]


if __name__ == "__main__":
    main(benchmark)
