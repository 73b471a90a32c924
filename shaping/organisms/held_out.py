"""The loss of a model directory on some sequences: packed, in the type that a run uses, and of a bounded length."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.organisms.corpus.warm_corpus import IGNORED, Row

BATCH = 4096
"""Tokens of one pass, unless a sequence is longer."""


def bounded(rows: Sequence[Row], tokens: int) -> list[Row]:
    """The first sequences that have together at most so many tokens; at least one."""
    chosen: list[Row] = []
    total = 0
    for row in rows:
        total += len(row["input_ids"])
        if chosen and total > tokens:
            break
        chosen.append(row)
    return chosen


@torch.no_grad()
def held_out_loss(directory: Path, rows: Sequence[Row], dtype: torch.dtype) -> float:
    """Mean over the labels, in nats per token, of the directory's weights in this type.

    The model is run as in training: it is refused if it does not do here what it does in its own forward pass.
    """
    policy = Policy.load(directory, dtype=dtype, device="auto")
    samples = [_sample(row) for row in rows]
    total = count = 0.0
    for batch in pack(samples, max(BATCH, *map(len, samples)), policy.device, padded=policy.padded):
        logprobs, _ = policy.logprobs(batch)
        total += float(logprobs.double().sum())
        count += len(logprobs)
    return -total / count


def _sample(row: Row) -> Sample:
    zeros = np.zeros(len(row["input_ids"]), np.float32)
    return Sample(
        tokens=np.array(row["input_ids"], np.int64),
        mask=np.array(row["labels"]) != IGNORED,
        old_logprobs=zeros,
        advantage=zeros,
        weight=np.ones_like(zeros),
        masked_tokens=np.zeros((0, 2), np.int64),
    )
