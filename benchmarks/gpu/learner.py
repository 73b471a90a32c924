"""Tokens per second and peak memory of the learner beside a plain packed pass, padded batches, and TRL."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.gpu.report import Check, Part
from benchmarks.gpu.shapes import (
    QWEN3_4B,
    QWEN3_600M,
    SMOLLM2_135M,
    TINY,
    Shape,
    measured,
    model_of,
    release,
    sequences,
    tokenizer,
    total,
)
from benchmarks.table import Row
from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.sample import Sample
from shaping.models.forward import hidden_states

LR = 1e-6
PADDED = 8
"""Sequences of a padded micro-batch."""
Update = Callable[[Sequence[Sample]], object]


def learner(device: torch.device, quick: bool) -> Part:
    """The part `learner`."""
    rows: list[Row] = []
    checks: list[Check] = []
    for shape in (TINY,) if quick else (SMOLLM2_135M, QWEN3_600M, QWEN3_4B):
        samples = sequences(shape.settings["vocab_size"], *((4, 60) if quick else (64, 700)))
        try:
            ours = _figures(partial(_ours, shape, device), samples, device)
            small = ours if shape.lora else _figures(partial(_ours, shape, device, "bfloat16"), samples, device)
        except torch.OutOfMemoryError as error:
            checks.append(Check(f"{shape.name}: our update", False, " ".join(str(error).split())[:200]))
            continue
        for name, made in _peers(shape, device).items():
            try:
                peer = _figures(made, samples, device)
            except torch.OutOfMemoryError:
                checks.append(Check(f"{shape.name}: {name}", None, "it needs more memory than there is"))
                continue
            rows.append(Row(f"{shape.name}: {name}", ours[0], peer[0], "tokens/s", ours[0] / peer[0]))
            if device.type == "cuda":
                rows.append(Row(f"{shape.name}: memory, {name}", ours[1], peer[1], "GiB", peer[1] / ours[1]))
                if not shape.lora:
                    told = f"{shape.name}: memory with bfloat16 states, {name}"
                    rows.append(Row(told, small[1], peer[1], "GiB", peer[1] / small[1]))
        if importlib.util.find_spec("trl") is None:
            checks.append(Check(f"{shape.name}: TRL", None, "it is not installed"))
    return Part("learner", checks, rows)


def _figures(made: Callable[[], Update], samples: list[Sample], device: torch.device) -> tuple[float, float]:
    """(tokens per second, peak GiB with the model) of one update."""
    release(device)
    updates = [made()]
    seconds, peak = measured(lambda: updates[0](samples), device, 3)
    updates.clear()
    release(device)
    return total(samples) / seconds, peak


def _policy(shape: Shape, device: torch.device) -> Policy:
    adapters = [AdapterSpec("kept", "kept", rank=shape.lora, alpha=2.0 * shape.lora)] if shape.lora else []
    return Policy(model_of(shape, device, torch.bfloat16), tokenizer(), adapters=adapters)


def _ours(shape: Shape, device: torch.device, states: Literal["float32", "bfloat16"] = "float32") -> Update:
    config = LearnerConfig(lr=LR, token_budget=shape.budget, optimizer_states=states)
    return Learner(_policy(shape, device), config).update


def _peers(shape: Shape, device: torch.device) -> dict[str, Callable[[], Update]]:
    peers: dict[str, Callable[[], Update]] = {
        "raw packed pass": lambda: Raw(_policy(shape, device), shape.budget).update,
        "padded batches": lambda: Padded(_policy(shape, device), shape.budget).update,
    }
    if importlib.util.find_spec("trl") is not None and not shape.lora and device.type == "cuda":
        peers["TRL"] = lambda: _trl(shape, device)
    return peers


class Raw:
    """Cross-entropy over packed tokens: forward, backward, AdamW, and nothing else."""

    def __init__(self, policy: Policy, budget: int) -> None:
        self.policy, self._budget = policy, budget
        self.trained = [p for group in policy.groups().values() for p in group]
        self._optimizer = torch.optim.AdamW(self.trained, lr=LR, weight_decay=0.0)

    def losses(self, samples: Sequence[Sample]) -> list[Callable[[], Tensor]]:
        """One function per micro-batch, which gives the summed cross-entropy."""
        model = self.policy.model

        def loss(batch: Batch) -> Tensor:
            hidden = hidden_states(model, batch.ids, batch.positions, batch.plan)[0]
            logits = model.get_output_embeddings()(hidden[batch.rows]).float()
            return F.cross_entropy(logits, batch.targets, reduction="sum")

        return [partial(loss, batch) for batch in pack(samples, self._budget, self.policy.device)]

    def update(self, samples: Sequence[Sample]) -> None:
        self._optimizer.zero_grad(set_to_none=True)
        tokens = sum(int(s.mask.sum()) for s in samples)
        with self.policy.phase("training"):
            for loss in self.losses(samples):
                (loss() / tokens).backward()
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self._optimizer.step()


class Padded(Raw):
    """The same over padded batches of neighbours in length, with the attention and logits of transformers."""

    def __init__(self, policy: Policy, budget: int) -> None:
        super().__init__(policy, budget)
        policy.model.set_attn_implementation("sdpa")

    def losses(self, samples: Sequence[Sample]) -> list[Callable[[], Tensor]]:
        by_length = sorted(samples, key=len)
        parts = [by_length[i : i + PADDED] for i in range(0, len(samples), PADDED)]
        return [partial(self._loss, part) for part in parts]

    def _loss(self, samples: Sequence[Sample]) -> Tensor:
        width, device = max(map(len, samples)), self.policy.device

        def padded(name: str) -> Tensor:
            rows = [getattr(s, name) for s in samples]
            return torch.from_numpy(np.stack([np.pad(row, (0, width - len(row))) for row in rows])).to(device)

        inside = torch.arange(width, device=device) < torch.tensor([[len(s)] for s in samples], device=device)
        ids, mask = padded("tokens"), padded("mask")
        logits = self.policy.model(input_ids=ids, attention_mask=inside.long(), use_cache=False).logits
        return F.cross_entropy(logits[:, :-1][mask[:, 1:]].float(), ids[:, 1:][mask[:, 1:]], reduction="sum")


def _trl(shape: Shape, device: torch.device) -> Update:
    from benchmarks.learner_peers import Trl

    with tempfile.TemporaryDirectory() as folder:
        model_of(shape, device, torch.bfloat16).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return Trl(Path(folder), "bfloat16", PADDED, LR, use_cpu=False).update
