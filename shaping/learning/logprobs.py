"""Log-probs and entropy in chunks: the [tokens, vocabulary] tensor never exists, forward or backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from shaping.models.attention import head_logits

CHUNK = 2048
IMPOSSIBLE = -1e4
"""Far below the log-prob whose exp is still above zero in float32; finite, so that zero times it is zero."""


def token_logprobs(
    model: PreTrainedModel,
    hidden: Tensor,
    targets: Tensor,
    forbidden: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = CHUNK,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """(log-prob of each target [m], entropy of each distribution [m]) from hidden states [m, hidden].

    `forbidden` [k, 2] holds (row, token id) pairs whose probability is zero, as it was in sampling. Logits of one
    chunk are recomputed in the backward pass. Entropy is detached unless `entropy_gradient`, which makes the backward
    pass compute it a second time.
    """
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for start in range(0, len(targets), chunk):
        stop = min(start + chunk, len(targets))
        inside = (forbidden[:, 0] >= start) & (forbidden[:, 0] < stop)
        banned = forbidden[inside] - torch.tensor([start, 0], device=forbidden.device)
        args = (model, hidden[start:stop], targets[start:stop], banned, temperature, entropy_gradient)
        if torch.is_grad_enabled() and hidden.requires_grad:
            logp, entropy = checkpoint(_chunk, *args, use_reentrant=False)
        else:
            logp, entropy = _chunk(*args)
        logprobs.append(logp)
        entropies.append(entropy)
    if not logprobs:
        return hidden.new_zeros(0, dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk(
    model: PreTrainedModel, hidden: Tensor, targets: Tensor, banned: Tensor, temperature: float, entropy_gradient: bool
) -> tuple[Tensor, Tensor]:
    logits = head_logits(model, hidden) / (temperature or 1.0)
    if len(banned):
        logits = logits.index_put((banned[:, 0], banned[:, 1]), logits.new_tensor(-torch.inf))
    logp = torch.log_softmax(logits, dim=-1)
    picked = logp.gather(1, targets[:, None])[:, 0]
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):  # last: not recomputed without gradient
        entropy = -(logp.exp() * logp.clamp_min(IMPOSSIBLE)).sum(-1)
    return picked, entropy
