"""Losses as pure functions over packed per-token streams. Each returns a sum; the caller divides by token counts."""

from __future__ import annotations

import torch
from torch import Tensor

from shaping.intervention import RatioMode


def policy_gradient(
    logprobs: Tensor,
    old: Tensor,
    advantage: Tensor,
    weight: Tensor,
    *,
    ratio: RatioMode,
    clip_low: float,
    clip_high: float,
) -> Tensor:
    """Sum over tokens of the clipped surrogate (Schulman et al., arXiv:1707.06347), shapes [m].

    `ratio`: `cross` and `recompute` clip exp(logprobs - old), where `old` holds the sampler's log-probs or the ones
    recomputed under the learning context; `none` is REINFORCE: the ratio is 1 with the gradient of the log-prob.
    """
    if ratio == "none":
        return -(torch.exp(logprobs - logprobs.detach()) * advantage * weight).sum()
    r = torch.exp(logprobs - old)
    surrogate = torch.minimum(r * advantage, r.clamp(1 - clip_low, 1 + clip_high) * advantage)
    return -(surrogate * weight).sum()


def clipped_fraction(logprobs: Tensor, old: Tensor, advantage: Tensor, *, clip_low: float, clip_high: float) -> Tensor:
    """Number of tokens whose gradient the clip removes."""
    r = torch.exp(logprobs.detach() - old)
    return (((r > 1 + clip_high) & (advantage > 0)) | ((r < 1 - clip_low) & (advantage < 0))).sum()


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Sum over tokens of the k3 estimate of KL(policy || reference): exp(d) - d - 1 with d = reference - logprobs.

    Unbiased and never negative for tokens sampled from the policy (Schulman, "Approximating KL divergence", 2020).
    """
    d = reference - logprobs
    return (torch.exp(d) - d - 1).sum()
