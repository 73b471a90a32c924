"""Log-probs and entropy in chunks: the [tokens, vocabulary] tensor never exists, forward or backward."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from shaping.models.attention import head_logits

CHUNK = 2048


def token_logprobs(
    model: PreTrainedModel,
    hidden: Tensor,
    targets: Tensor,
    forbidden: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """(log-prob of each target [m], entropy of each distribution [m], detached) from hidden states [m, hidden].

    `forbidden` [k, 2] holds (row, token id) pairs whose probability is zero, as it was in sampling. Logits of one
    chunk are recomputed in the backward pass.
    """
    logprobs: list[Tensor] = []
    entropies: list[Tensor] = []
    for start in range(0, len(targets), chunk):
        stop = min(start + chunk, len(targets))
        inside = (forbidden[:, 0] >= start) & (forbidden[:, 0] < stop)
        banned = forbidden[inside] - torch.tensor([start, 0], device=forbidden.device)
        args = (model, hidden[start:stop], targets[start:stop], banned, temperature)
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
    model: PreTrainedModel, hidden: Tensor, targets: Tensor, banned: Tensor, temperature: float
) -> tuple[Tensor, Tensor]:
    logits = head_logits(model, hidden) / (temperature or 1.0)
    if len(banned):
        logits = logits.index_put((banned[:, 0], banned[:, 1]), logits.new_tensor(-torch.inf))
    logp = torch.log_softmax(logits, dim=-1)
    picked = logp.gather(1, targets[:, None])[:, 0]
    with torch.no_grad():  # last, so that the backward pass does not recompute it
        entropy = -(logp.exp() * logp.clamp_min(torch.finfo(logp.dtype).min)).sum(-1)
    return picked, entropy
