"""The peer of the learner: padded batches through an unmodified transformers model with full logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM

from shaping.learning.samples.sample import Sample


class Padded:
    """One AdamW step over samples in their order, in micro-batches of `rows` padded on the right."""

    def __init__(self, directory: Path, rows: int, lr: float = 1e-6) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
        self.model.train()
        self._optimizer = torch.optim.AdamW(self.model.parameters(), lr=lr, weight_decay=0.0)
        self._rows = rows

    def policy_gradient(self, samples: Sequence[Sample], clip: float = 0.2) -> None:
        """The clipped surrogate, as the learner computes it."""

        def loss(logprobs: Tensor, batch: dict[str, Tensor]) -> Tensor:
            ratio = torch.exp(logprobs - batch["old_logprobs"])
            surrogate = torch.minimum(ratio * batch["advantage"], ratio.clamp(1 - clip, 1 + clip) * batch["advantage"])
            return -(surrogate * batch["weight"] * batch["mask"]).sum()

        self._step(samples, loss)

    def likelihood(self, samples: Sequence[Sample]) -> None:
        """The weighted negative log-likelihood of pre-training."""
        self._step(samples, lambda logprobs, batch: -(logprobs * batch["weight"] * batch["mask"]).sum())

    def _step(self, samples: Sequence[Sample], loss: object) -> None:
        tokens = sum(int(s.mask[1:].sum()) for s in samples)
        self._optimizer.zero_grad(set_to_none=True)
        for start in range(0, len(samples), self._rows):
            batch = _pad(samples[start : start + self._rows])
            logits = self.model(input_ids=batch["ids"], attention_mask=batch["attend"]).logits[:, :-1].float()
            logprobs = -F.cross_entropy(logits.transpose(1, 2), batch["ids"][:, 1:], reduction="none")
            (loss(logprobs, batch) / tokens).backward()  # type: ignore[operator]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()


def _pad(samples: Sequence[Sample]) -> dict[str, Tensor]:
    """`ids` and `attend` [rows, longest]; the streams [rows, longest - 1], aligned with the predicted tokens."""
    width = max(map(len, samples))

    def stack(name: str) -> Tensor:
        rows = [np.pad(getattr(s, name), (0, width - len(s))) for s in samples]
        return torch.from_numpy(np.stack(rows))

    batch = {name: stack(name)[:, 1:] for name in ("mask", "old_logprobs", "advantage", "weight")}
    lengths = torch.tensor([len(s) for s in samples])
    return {**batch, "ids": stack("tokens"), "attend": (torch.arange(width) < lengths[:, None]).long()}
