"""Losses as pure functions of packed per-token streams. Each returns a sum; the caller divides by token counts."""

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
    clip_dual: float | None = None,
) -> Tensor:
    """Sum over tokens of the clipped surrogate (Schulman et al., arXiv:1707.06347).

    Args:
        logprobs: the policy's log-probs [m].
        old: old log-probs [m]: the sampler's, or recomputed ones under the training context.
        advantage: advantages [m].
        weight: factors [m].
        ratio: `sampler` and `recomputed` clip exp(logprobs - old). `none` is REINFORCE: the ratio is 1, with the
            gradient of the log-prob.
        clip_low: the ratio is clipped below at 1 - clip_low.
        clip_high: and above at 1 + clip_high. Above clip_low it is DAPO's clip-higher (Yu et al., arXiv:2503.14476),
            under which unlikely tokens can rise further.
        clip_dual: largest ratio that multiplies a negative advantage (Ye et al., arXiv:1912.09729); None: any. Without
            it a token whose ratio has risen far has a gradient as large as its ratio.
    """
    if ratio == "none":
        return -(torch.exp(logprobs - logprobs.detach()) * advantage * weight).sum()
    rho = torch.exp(logprobs - old)
    surrogate = torch.minimum(rho * advantage, rho.clamp(1 - clip_low, 1 + clip_high) * advantage)
    if clip_dual is not None:
        surrogate = torch.where(advantage < 0, torch.maximum(surrogate, clip_dual * advantage), surrogate)
    return -(surrogate * weight).sum()


def clipped_fraction(
    logprobs: Tensor,
    old: Tensor,
    advantage: Tensor,
    *,
    clip_low: float,
    clip_high: float,
    clip_dual: float | None = None,
) -> Tensor:
    """Number of tokens whose gradient the clip removes; the arguments are those of `policy_gradient`."""
    rho = torch.exp(logprobs.detach() - old)
    clipped = ((rho > 1 + clip_high) & (advantage > 0)) | ((rho < 1 - clip_low) & (advantage < 0))
    return (clipped if clip_dual is None else clipped | ((rho > clip_dual) & (advantage < 0))).sum()


def sequence_old(logprobs: Tensor, old: Tensor, sequence: Tensor) -> Tensor:
    """Old log-probs [m] that give each token the ratio of its sequence (GSPO-token, Zheng et al., arXiv:2507.18071).

    The ratio of a sequence is the geometric mean of its tokens' ratios: exp(mean of logprobs - old) over its loss
    tokens. With the result in place of `old`, the ratio has that *value* at every token and is clipped by it, while
    the *gradient* stays the token's own. With one advantage per sequence this is GSPO's gradient; advantages and
    weights that differ within a sequence keep their position. The result is detached.

    Args:
        logprobs: the policy's log-probs [m].
        old: old log-probs [m].
        sequence: index [m] of the sequence of each token.
    """
    now = logprobs.detach()
    count = int(sequence.max()) + 1 if len(sequence) else 0
    sums = now.new_zeros(count).index_add_(0, sequence, now - old)
    tokens = torch.bincount(sequence, minlength=count).clamp_min(1)
    return now - (sums / tokens)[sequence]


def mismatch_weight(
    learner: Tensor, sampler: Tensor, *, mode: MismatchCorrection, cap: float, sequence: Tensor | None = None
) -> Tensor:
    """Importance weight of each token, shape [m], detached, for a sampler whose numerics differ from the learner's.

    Args:
        learner: the learner's log-probs [m].
        sampler: the sampler's log-probs [m], under the same context, mask and edits.
        mode: `none`: one. `truncate`: min(exp(learner - sampler), cap), biased but with bounded variance (Espeholt et
            al., arXiv:1802.01561). `mask`: zero above the cap, so that tokens with a large mismatch have no gradient.
            The `sequence_` modes use one weight for all tokens of a sequence, the product of its tokens' ratios; an
            unbiased estimate needs it, and its variance grows with the length. That of the `geometric_` modes is their
            geometric mean, which does not: it finds sequences of which the sampler was wrong as a whole.
        cap: largest weight.
        sequence: index [m] of the sequence of each token; needed by the `sequence_` and `geometric_` modes.
    Raises: ValueError if `sequence` is missing.
    """
    if mode == "none":
        return torch.ones_like(sampler)
    difference = learner.detach() - sampler
    if mode.startswith(("sequence", "geometric")):
        if sequence is None:
            raise ValueError(f"mismatch correction {mode!r} needs the sequence of each token: pass `sequence`")
        count = int(sequence.max()) + 1 if len(sequence) else 0
        sums = difference.new_zeros(count).index_add_(0, sequence, difference)
        if mode.startswith("geometric"):
            sums = sums / torch.bincount(sequence, minlength=count).clamp_min(1)
        difference = sums[sequence]
    weight = torch.exp(difference)
    return weight.clamp(max=cap) if mode.endswith("truncate") else weight.masked_fill(weight > cap, 0.0)


def imitation(logprobs: Tensor, weight: Tensor) -> Tensor:
    """Sum over sampled tokens of weight times cross-entropy, shapes [m]: behaviour cloning of the sampled tokens."""
    return -(logprobs * weight).sum()


def value_loss(values: Tensor, old: Tensor, targets: Tensor, mask: Tensor, clip: float) -> Tensor:
    """Half the squared error of the critic, summed over the steps in `mask` [m]. The other arrays are [m, heads].

    The error is the larger one of two: of the value, and of the value clipped to `old` +- `clip`. As for the policy, an
    update gains nothing by moving a value beyond the clip (Schulman et al., arXiv:1707.06347; Huang et al., "The 37
    Implementation Details of Proximal Policy Optimization", 2022).
    """
    clipped = old + (values - old).clamp(-clip, clip)
    error = torch.maximum((values - targets) ** 2, (clipped - targets) ** 2).sum(-1)
    return error[mask].sum() / 2


def kl(logprobs: Tensor, reference: Tensor, estimator: KLEstimator) -> Tensor:
    """Sum over tokens of an estimate of KL(policy || reference), for tokens sampled from the policy.

    With d = reference - logprobs (Schulman, "Approximating KL divergence", 2020): k1 = -d, unbiased, with high
    variance; k2 = d^2 / 2, biased, with low variance; k3 = exp(d) - d - 1, unbiased and never negative.

    As losses they have other gradients than the KL they estimate, because the tokens are fixed (Tang and Munos,
    arXiv:2506.09477). On policy, the expected gradient is zero for k1, that of KL(policy || reference) for k2, and
    that of KL(reference || policy) for k3.
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
