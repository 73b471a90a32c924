"""How many episodes are open at once in the run's own process: each keeps its keys and values in memory."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from launch.config.study import RunConfig
from launch.run.episodes import SLOTS
from shaping.models.sizes import cached_numbers

FOR_CACHE = 0.8
"""Share of a GPU's free memory that keys and values may take in an evaluation; the rest is for the pass itself."""


def eval_slots(run: RunConfig, model: PreTrainedModel) -> int:
    """Episodes open at once in an evaluation: `eval.slots`, or as many as a GPU's memory holds at their longest."""
    if run.eval.slots is not None:
        return run.eval.slots
    if model.device.type != "cuda":
        return SLOTS
    torch.cuda.empty_cache()  # what training has freed counts as free
    free, _ = torch.cuda.mem_get_info(model.device)
    each = longest(run, model) * cached_numbers(model.config) * model.dtype.itemsize
    return max(1, min(SLOTS, int(FOR_CACHE * free / each))) if each else SLOTS


def longest(run: RunConfig, model: PreTrainedModel) -> int:
    """Tokens of the longest episode that a run can play."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(run.learner.token_budget, context or run.learner.token_budget)
