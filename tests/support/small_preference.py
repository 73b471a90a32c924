"""An untrained preference model of 20,000 parameters, whose tokenizer knows the words of the built-in worlds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaForCausalLM, LlamaForSequenceClassification

from rewards.preference.model import Card, Objective, Scorer, save
from rewards.preference.text import Reads
from shaping.contract.groups import small_policy


def small_scorer(objective: Objective = "ranked", reads: Reads = "all", *, scale: float = 20.0) -> Scorer:
    """Its scores differ between answers, since the head's first weights are `scale` times the usual ones."""
    policy = small_policy()
    config = policy.model.config
    config.pad_token_id = policy.tokenizer.pad_token_id
    config.num_labels = 1
    torch.manual_seed(0)
    if objective == "imitation":
        return Scorer(LlamaForCausalLM(config).eval(), policy.tokenizer, objective, reads)
    model = LlamaForSequenceClassification(config).eval()
    with torch.no_grad():
        model.score.weight.mul_(scale)
    return Scorer(model, policy.tokenizer, objective, reads)


def write_small(path: Path, worlds: Sequence[str], objective: Objective = "ranked", reads: Reads = "all") -> Card:
    """Write one to `path`, as if it had been trained on these worlds."""
    path.mkdir(parents=True)
    card = Card(objective=objective, reads=reads, worlds=list(worlds), mean=0.5, deviation=2.0, files={})
    return save(path, small_scorer(objective, reads), card)
