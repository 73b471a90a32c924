"""What the pre-training of an organism holds in the memory of this machine, estimated before it is begun."""

from __future__ import annotations

from collections.abc import Iterable

import psutil

from launch.config.model import OrganismModel
from launch.config.study import RunConfig
from launch.run.memory import GIB, USABLE, TooLargeError
from shaping.organisms.config import OrganismConfig

FLOAT = 4
"""Bytes of a number: organisms are pre-trained in float32."""


def pretraining_bytes(config: OrganismConfig) -> int:
    """Bytes of pre-training: weights, gradients and AdamW's two moments, activations of a batch, and its logits.

    One layer keeps of a token about 10 hidden states, queries, keys and values twice, and three times the width of the
    feed-forward part, as in docs/memory.md; logits are there three times, as such, normalised, and as a gradient.
    """
    queries, keys = config.hidden, 2 * config.hidden * config.kv_heads // config.heads
    layer = 10 * config.hidden + 2 * (queries + keys) + 3 * 2 * config.hidden
    of_a_token = config.layers * layer + 3 * config.vocabulary
    return FLOAT * (4 * config.parameters + config.batch_tokens * of_a_token)


def check_pretraining(runs: Iterable[RunConfig], free: float | None = None) -> None:
    """Raise `TooLargeError` for the first organism that is not made yet and that this machine cannot make.

    `free`: bytes; None: those that are available now.
    """
    from launch.run.models.start_model import present_model  # imports transformers

    free = float(psutil.virtual_memory().available) if free is None else free
    models = {run.model.model_dump_json(): run.model for run in runs if isinstance(run.model, OrganismModel)}
    for model in models.values():
        if (needed := pretraining_bytes(model.organism)) > USABLE * free and present_model(model) is None:
            own = model.organism
            raise TooLargeError(
                f"model.organism: an organism of {own.parameters / 1e6:,.1f} M weights (hidden {own.hidden}, layers "
                f"{own.layers}) needs about {needed / GIB:.1f} GiB to be pre-trained in batches of "
                f"{own.batch_tokens:,} tokens, and {free / GIB:.1f} GiB are free: choose a smaller size, or fewer "
                "batch_tokens"
            )


def pretraining_line(model: OrganismModel) -> str:
    """For a dry run: the size of an organism that is still to be made, and what that needs."""
    needed = pretraining_bytes(model.organism) / GIB
    return (
        f"{model.organism.parameters / 1e6:,.2f} M weights, to be pre-trained first, which holds about {needed:.2f} GiB"
    )
