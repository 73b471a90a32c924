"""Samples of several kinds, for learners of one rank and of several."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from shaping.hooks import AdapterSpec, NormAlarm, Subspace
from shaping.learning.samples.sample import CriticTargets, Origin, Sample

CONFINED = [
    AdapterSpec("own", "kept", 4, subspace=Subspace(inside=False, random=0)),
    AdapterSpec("vice", "quarantine", 4, subspace=Subspace(inside=True, random=0), alarm=NormAlarm(0.06, "rewind")),
]
"""Adapters with a subspace. The limit lies between the norms after the first update and the second, which is undone."""
POISON = 13
"""An episode of so many tokens makes the gradient of its micro-batch infinite."""


def sample(length: int, seed: int, credit: bool = True, **changes: Any) -> Sample:
    rng = np.random.default_rng(seed)
    mask = rng.random(length) < 0.67
    mask[:2] = False, True
    return Sample(
        tokens=rng.integers(0, 250, length),
        mask=mask,
        old_logprobs=np.where(mask, -5.8, 0.0).astype(np.float32),
        advantage=(rng.normal(size=length) * credit).astype(np.float32),
        weight=np.ones(length, np.float32),
        masked_tokens=np.array([(int(p), 251) for p in np.flatnonzero(mask)], np.int64).reshape(-1, 2),
        **{"on_policy": False, **changes},
    )


def uneven(update: int) -> list[Sample]:
    """Micro-batches of three kinds: an odd number of each, of lengths from 5 to 40."""
    lengths = (40, 33, 12, 31, 5, 9)
    many = [sample(n, 10 * update + i, ratio="recomputed", on_policy=i % 2 == 0) for i, n in enumerate(lengths)]
    many = [s if s.on_policy else replace(s, sampled=replace(s, sampled=None)) for s in many]
    return [*many, sample(25, 90 + update, ratio="sampler"), sample(30, 70 + update, credit=False)]


def partly_read(update: int) -> list[Sample]:
    """A micro-batch without credit comes last: it has a forward pass only, after which weights change."""
    learned = [sample(25 + i, 10 * update + i, ratio="sampler") for i in range(3)]
    return [*learned, sample(30, 70 + update, credit=False, ratio="recomputed")]


def gated(update: int) -> list[Sample]:
    gates = ((1.0, 0.0), (0.0, 1.0), (0.5, 1.0))
    return [
        sample(20 + i, 10 * update + i, kept_gate=kept, quarantine_gate=quarantine)
        for i, (kept, quarantine) in enumerate(gates * 3)
    ]


def turns(update: int) -> list[Sample]:
    """Parts of two episodes; the first two are parts of one turn."""
    found = []
    for i, (episode, turn) in enumerate(((0, 0), (0, 0), (0, 1), (1, 0), (1, 1))):
        plain = sample(22 + 3 * i, 10 * update + i)
        of = np.full(len(plain), turn, np.int16)
        found.append(replace(plain, origin=Origin(episode, of, np.full(len(plain), 3, np.int8))))
    return found


def valued(update: int) -> list[Sample]:
    """They begin alike, and are too many for one micro-batch."""
    found = []
    for i in range(5):
        plain, rng = sample(20 + 4 * i, 10 * update + i), np.random.default_rng(i)
        tokens, mask, own = plain.tokens.copy(), plain.mask.copy(), plain.masked_tokens[:, 0] >= 16
        tokens[:16], mask[:16] = 7, False
        plain = replace(plain, tokens=tokens, mask=mask, masked_tokens=plain.masked_tokens[own])
        old, targets = rng.normal(size=(2, len(plain), 1)).astype(np.float32)
        found.append(replace(plain, critic=CriticTargets(old, targets, plain.mask)))
    return found


def poisoned(update: int) -> list[Sample]:
    """In the second update one micro-batch, of one rank, has an infinite loss."""
    return [sample(POISON if update == 1 and i == 3 else 30, 10 * update + i) for i in range(4)]
