"""How much disk a study needs: what its runs leave behind, and the training states of those that run at a time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from launch.config.study import RunConfig
from launch.storage.checkpoint import KEPT
from shaping.models.model_files import shapes

RUN_BYTES = 8_000_000
"""Upper estimate for metrics, episodes and logs of one run, without weights and states."""
NUMBER = 4
"""Bytes of a number in a state: weights and moments of the optimiser are float32 at most."""


def needed(runs: Sequence[tuple[RunConfig, Path]], at_once: int) -> int:
    """Bytes that runs need, each given with its start model, of which `at_once` train at a time."""
    models = {model: shapes(model) for model in {model for _, model in runs}}
    left = sum(RUN_BYTES + NUMBER * _saved(run, models[model]) for run, model in runs)
    states = sorted((state_bytes(run, models[model]) for run, model in runs), reverse=True)
    return left + (KEPT + 1) * sum(states[:at_once])  # KEPT are on disk while the next one is written


def state_bytes(run: RunConfig, weights: Mapping[str, Sequence[int]]) -> int:
    """Bytes of one training state: what trains, its two moments, and what a KL term compares with."""
    if not run.train.checkpoint_every:
        return 0
    output = max((math.prod(shape) for shape in weights.values()), default=0)  # stored by itself, also if it is tied
    whole, lora = _numbers(weights.values()) + output, run.learner.lora
    if lora is not None:
        return NUMBER * 3 * _adapters(weights, lora.rank)
    return NUMBER * whole * (4 if run.learner.kl > 0 else 3)


def _saved(run: RunConfig, weights: Mapping[str, Sequence[int]]) -> int:
    """Numbers that a finished run keeps: its whole model, or its adapter."""
    lora = run.learner.lora
    return _numbers(weights.values()) if lora is None else _adapters(weights, lora.rank)


def _numbers(weights: Iterable[Sequence[int]]) -> int:
    return sum(math.prod(shape) for shape in weights)


def _adapters(weights: Mapping[str, Sequence[int]], rank: int) -> int:
    """Numbers of adapters of that rank beside every matrix."""
    return sum(rank * sum(shape) for shape in weights.values() if len(shape) == 2)
