"""Truncated sampling: only the likeliest tokens of a distribution can be drawn, and which these were is recorded.

The record is what makes it honest to train on such samples: a token's log-prob is taken over the tokens that were kept,
in the sampler and in the learner alike. The learner cannot find them by itself: its logits differ by rounding, and from
its second step on by the policy.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from shaping.sampling.truncation import Truncation


def truncate(logits: Tensor, rows: Sequence[int], how: Truncation) -> list[tuple[int, ...]]:
    """Set the logits [batch, vocabulary] of tokens that are not kept to -inf in place. Returns those kept, per row."""
    index = torch.tensor(list(rows), device=logits.device)
    chosen = logits[index]
    values, ids = chosen.topk(min(how.top_k or chosen.shape[1], chosen.shape[1]), dim=-1)
    if how.min_p:
        values = values.masked_fill(values < values[:, :1] + torch.tensor(how.min_p).log(), -torch.inf)
    chances = values.double().softmax(-1)
    kept = torch.isfinite(values) & (chances.cumsum(-1) - chances < how.top_p)
    kept[:, 0] = True
    values = values.masked_fill(~kept, -torch.inf)
    logits[index] = torch.full_like(chosen, -torch.inf).scatter_(1, ids, values)
    sizes = kept.sum(-1).tolist()
    return [tuple(part) for part in map(Tensor.tolist, ids[kept].split(sizes))]


def recorded(kept: Sequence[int]) -> tuple[int, ...]:
    """The entry of `masked_tokens` that says that no other tokens were possible: their ids, each as ~id."""
    return tuple(~token for token in kept)
