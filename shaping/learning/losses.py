"""Losses as pure functions over packed per-token streams. Each returns a sum; the caller divides by token counts."""

from __future__ import annotations

import torch
from torch import Tensor

from shaping.hooks import RatioMode
from shaping.learning.config import KLEstimator, MismatchCorrection


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

    `ratio`: `sampler` and `recomputed` clip exp(logprobs - old), where `old` holds the sampler's log-probs or the ones
    recomputed under the training context; `none` is REINFORCE: the ratio is 1 with the gradient of the log-prob.

    `clip_high` above `clip_low` is DAPO's clip-higher (Yu et al., arXiv:2503.14476): unlikely tokens may rise further.
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


def sequence_old(logprobs: Tensor, old: Tensor, sequence: Tensor) -> Tensor:
    """Old log-probs [m] that give each token its sequence's ratio (GSPO-token, Zheng et al., arXiv:2507.18071).

    The ratio of a sequence is the geometric mean of its tokens' ratios, exp(mean of logprobs - old) over its loss
    tokens; `sequence` [m] numbers the sequence of each. Used in place of `old`, the ratio has that *value* at every
    token, and is clipped by it, while the *gradient* stays the token's own: with one advantage per sequence this is
    GSPO's gradient, and advantages and weights that differ within a sequence keep their place. Detached.
    """
    now = logprobs.detach()
    count = int(sequence.max()) + 1 if len(sequence) else 0
    sums = now.new_zeros(count).index_add_(0, sequence, now - old)
    tokens = torch.bincount(sequence, minlength=count).clamp_min(1)
    return now - (sums / tokens)[sequence]


def mismatch_weight(
    learner: Tensor, sampler: Tensor, *, mode: MismatchCorrection, cap: float, sequence: Tensor | None = None
) -> Tensor:
    """Importance weight of each token, [m], detached, for a sampler whose numerics differ from the learner's.

    `learner` and `sampler` are log-probs of the same policy version under the same context, mask and edits. `truncate`:
    min(exp(learner - sampler), cap), biased but of bounded variance (Espeholt et al., arXiv:1802.01561); `mask`: zero
    instead of the cap, so that tokens on which the two disagree teach nothing; `none`: one. The `sequence_` modes do
    the same with one weight for all tokens of a sequence, the product of its tokens' ratios: what an unbiased estimate
    needs, at a variance that grows with the length. `sequence` [m] numbers the sequence of each token.
    """
    if mode == "none":
        return torch.ones_like(sampler)
    difference = learner.detach() - sampler
    if mode.startswith("sequence"):
        if sequence is None:
            raise ValueError(f"mismatch correction {mode!r} needs to know the sequence of each token")
        count = int(sequence.max()) + 1 if len(sequence) else 0
        difference = difference.new_zeros(count).index_add_(0, sequence, difference)[sequence]
    weight = torch.exp(difference)
    return weight.clamp(max=cap) if mode.endswith("truncate") else weight.masked_fill(weight > cap, 0.0)


def imitation(logprobs: Tensor, weight: Tensor) -> Tensor:
    """Sum over sampled tokens of weight times cross-entropy, shapes [m]: behaviour cloning of the sampler's choices."""
    return -(logprobs * weight).sum()


def value_loss(values: Tensor, old: Tensor, targets: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the critic, summed over the steps in `mask` [m]; the others are [m, heads].

    The larger of the error and that of the value clipped to `old` +- `clip`: an update does not gain from moving a
    value further than the clip, as for the policy (Schulman et al., arXiv:1707.06347; Huang et al., "The 37
    Implementation Details of Proximal Policy Optimization", 2022).
    """
    clipped = old + (values - old).clamp(-clip, clip)
    error = torch.maximum((values - targets) ** 2, (clipped - targets) ** 2).sum(-1)
    return error[mask].sum() / 2


def kl(logprobs: Tensor, reference: Tensor, estimator: KLEstimator) -> Tensor:
    """Sum over tokens of an estimate of KL(policy || reference), for tokens sampled from the policy.

    With d = reference - logprobs (Schulman, "Approximating KL divergence", 2020): k1 = -d, unbiased, of high variance;
    k2 = d^2 / 2, biased, of low variance; k3 = exp(d) - d - 1, unbiased and never negative.

    As losses they differ from what they estimate (Tang and Munos, arXiv:2506.09477), since the tokens are given: on
    policy the expected gradient of k1 is zero, of k2 that of KL(policy || reference), and of k3 that of
    KL(reference || policy).
    """
    if estimator == "k3":
        return kl_k3(logprobs, reference)
    d = reference - logprobs
    return -d.sum() if estimator == "k1" else (d**2 / 2).sum()


def kl_k3(logprobs: Tensor, reference: Tensor) -> Tensor:
    """Sum over tokens of the k3 estimate of KL(policy || reference): exp(d) - d - 1 with d = reference - logprobs.

    Unbiased and never negative for tokens sampled from the policy (Schulman, "Approximating KL divergence", 2020).
    """
    d = reference - logprobs
    return (torch.exp(d) - d - 1).sum()
