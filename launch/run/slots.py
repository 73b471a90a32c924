"""How many episodes are open at once in the run's own process: each keeps its keys and values in memory."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from launch.config.study import RunConfig
from launch.run.episodes import SLOTS, slots, slots_of
from shaping.models.sizes import cached_numbers
from shaping.sampling.engine import Engine
from shaping.sampling.transformers_engine import TransformersEngine

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


def own_slots(run: RunConfig, model: PreTrainedModel) -> int:
    """Slots of the engine that samples in this process: for training if it plays here, else for audits alone."""
    if run.rollout.workers == 0 and run.rollout.batching == "shared":
        return slots_of(run)
    return min(slots(run), eval_slots(run, model))


def audit_slots(run: RunConfig, engine: Engine) -> int:
    """Episodes open at once in an audit: no more than its engine has slots."""
    most = engine.slots if isinstance(engine, TransformersEngine) else slots(run)
    return min(most, run.eval.slots or most)


def longest(run: RunConfig, model: PreTrainedModel) -> int:
    """Tokens of the longest episode that a run can play."""
    context = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    return min(run.learner.token_budget, context or run.learner.token_budget)
