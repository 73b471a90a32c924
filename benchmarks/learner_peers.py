"""The peers of the learner: TRL's GRPO loss step, and a packed forward and backward pass without RL."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.models.forward import adopt, head_logits, hidden_states

PROMPT = 30
"""Tokens passed to TRL as the prompt. The rest is its completion, with observations masked as output of a tool."""


class Trl:
    """One step of the released `GRPOTrainer.compute_loss`, in micro-batches of `rows` sequences with TRL's padding."""

    def __init__(self, directory: Path, dtype: str, rows: int, lr: float, *, use_cpu: bool = True) -> None:
        os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
        from datasets import Dataset
        from trl import GRPOConfig, GRPOTrainer

        model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
        tokenizer = AutoTokenizer.from_pretrained(directory)
        self._folder = tempfile.TemporaryDirectory()
        config = GRPOConfig(
            output_dir=self._folder.name,
            per_device_train_batch_size=rows,
            num_generations=rows,
            use_cpu=use_cpu,
            bf16=False,  # the weights already have their type
            loss_type="bnpo",
            temperature=1.0,
            learning_rate=lr,
            gradient_checkpointing=False,
            report_to=[],
        )
        self.trainer = GRPOTrainer(
            model=model,
            reward_funcs=[lambda completions, **_: [0.0] * len(completions)],
            args=config,
            train_dataset=Dataset.from_dict({"prompt": ["."] * rows}),
            processing_class=tokenizer,
        )
        self._rows = rows
        self._optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
        model.train()

    def update(self, samples: Sequence[Sample]) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        parts = [samples[i : i + self._rows] for i in range(0, len(samples), self._rows)]
        self.trainer.current_gradient_accumulation_steps = len(parts)  # its training loop sets this
        for part in parts:
            inputs = {name: tensor.to(self.trainer.model.device) for name, tensor in _inputs(part).items()}
            self.trainer.compute_loss(self.trainer.model, inputs).backward()
        torch.nn.utils.clip_grad_norm_(self.trainer.model.parameters(), 1.0)
        self._optimizer.step()


def _inputs(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """The inputs of `compute_loss`: prompts padded on the left, completions on the right."""
    width = max(len(s) for s in samples) - PROMPT

    def completions(name: str) -> Tensor:
        rows = [getattr(s, name)[PROMPT:] for s in samples]
        return torch.from_numpy(np.stack([np.pad(row, (0, width - len(row))) for row in rows]))

    prompts = torch.from_numpy(np.stack([s.tokens[:PROMPT] for s in samples]))
    lengths = torch.tensor([len(s) - PROMPT for s in samples])
    return {
        "prompt_ids": prompts,
        "prompt_mask": torch.ones_like(prompts),
        "completion_ids": completions("tokens"),
        "completion_mask": (torch.arange(width) < lengths[:, None]).long(),
        "tool_mask": completions("mask").long(),
        "advantages": torch.tensor([float(s.advantage[0]) for s in samples]),
        "num_items_in_batch": torch.tensor(int(sum(s.mask.sum() for s in samples))),
    }


class Raw:
    """A plain cross-entropy step over the packed tokens: forward, backward, AdamW, and nothing else."""

    def __init__(self, directory: Path, dtype: str, budget: int, lr: float) -> None:
        self.model = adopt(AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))).train()
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.0)
        self._budget = budget

    def update(self, samples: Sequence[Sample]) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        tokens = sum(int(s.mask.sum()) for s in samples)
        for batch in pack(samples, self._budget):
            hidden = hidden_states(self.model, batch.ids, batch.positions, batch.plan)[0]
            logits = head_logits(self.model, hidden[batch.rows])
            (F.cross_entropy(logits, batch.targets, reduction="sum") / tokens).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
