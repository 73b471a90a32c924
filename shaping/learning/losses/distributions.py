"""Log-probs of chosen tokens at every loss token of a batch: the full [tokens, vocabulary] tensor never exists."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from shaping.learning.losses.logprobs import chunk_logits
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch
from shaping.models.forward import head_logits


def top_tokens(policy: Policy, batch: Batch, k: int) -> tuple[Tensor, Tensor]:
    """(ids [m, k], log-probs [m, k]) of the k most likely tokens at each of the m loss tokens. Without masks."""

    def compute(hidden: Tensor) -> tuple[Tensor, Tensor]:
        found = []
        for part in hidden.split(_chunk(policy)):
            logprobs = torch.log_softmax(_logits(policy, part), dim=-1)
            found.append(logprobs.topk(min(k, logprobs.shape[-1]), dim=-1))
        return torch.cat([each.indices for each in found]), torch.cat([each.values for each in found])

    return policy.on_states(batch, compute)


def logprobs_at(policy: Policy, batch: Batch, ids: Tensor) -> Tensor:
    """Log-probs [m, k] of the tokens `ids` [m, k] at each loss token; their logits are computed again backwards."""

    def compute(hidden: Tensor) -> Tensor:
        found = []
        for part, own in zip(hidden.split(_chunk(policy)), ids.split(_chunk(policy)), strict=True):
            if torch.is_grad_enabled() and part.requires_grad:
                found.append(checkpoint(_picked, policy, part, own, use_reentrant=False))
            else:
                found.append(_picked(policy, part, own))
        return torch.cat(found)

    return policy.on_states(batch, compute)


def _chunk(policy: Policy) -> int:
    """Loss tokens whose logits exist at once."""
    vocabulary = int(policy.model.get_output_embeddings().weight.shape[0])
    return max(chunk_logits(policy.device) // vocabulary, 16)


def _logits(policy: Policy, hidden: Tensor) -> Tensor:
    return head_logits(policy.model, hidden) / (policy.temperature or 1.0)


def _picked(policy: Policy, hidden: Tensor, ids: Tensor) -> Tensor:
    logits = _logits(policy, hidden)
    return logits.gather(1, ids) - torch.logsumexp(logits, dim=-1, keepdim=True)
