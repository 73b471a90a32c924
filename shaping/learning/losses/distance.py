"""The KL between the policy and a reference that the same module computes, over the tokens that were sampled."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Literal

import torch
from torch import Tensor

from shaping.learning.losses.losses import kl
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample


def distance(
    policy: Policy,
    samples: Sequence[Sample],
    others: Sequence[Sample],
    adapters: Sequence[str] | None,
    estimator: Literal["k2", "k3"],
) -> Tensor:
    """Sum over the loss tokens of an estimate of KL(policy || reference), with gradient through the policy alone.

    Args:
        policy: the policy.
        samples: the tokens, as the policy reads them.
        others: the same loss tokens, as the reference reads them.
        adapters: those that are active in the reference; None: those that are active now.
        estimator: of the KL (`shaping.learning.losses.losses.kl`).
    """
    with torch.no_grad(), nullcontext() if adapters is None else policy.adapters.using(adapters):
        reference = _logprobs(policy, others)
    return kl(_logprobs(policy, samples), reference, estimator)


def _logprobs(policy: Policy, samples: Sequence[Sample]) -> Tensor:
    """The log-probs of all loss tokens, sample by sample [m], from one pass."""
    longest = max(map(len, samples))
    budget = len(samples) * longest if policy.padded else sum(map(len, samples))
    (batch,) = pack(samples, budget, policy.device, padded=policy.padded)
    logprobs, _ = policy.logprobs(batch)
    places = {id(sample): number for number, sample in enumerate(batch.samples)}
    return torch.cat([logprobs[batch.sequence == places[id(sample)]] for sample in samples])
