"""Per-token streams: everything the learner knows about an episode, and all it needs to know.

Interventions and algorithms only write these arrays; the learner sums loss components over them and does not know
which method produced them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shaping.hooks import RatioMode

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CriticTargets:
    """What the critic is to learn. `old` and `targets` have shape [tokens, heads]; `mask` is 1 where a step starts."""

    old: NDArray[np.float32]
    targets: NDArray[np.float32]
    mask: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Sample:
    """One token sequence to learn from. Arrays have shape [tokens] unless said otherwise.

    `mask` is 1 on tokens in the loss. `old_logprobs` are the sampler's under c_s. `advantage` and `weight` multiply
    the policy-gradient term per token. `masked_tokens` holds (position, token id) pairs, shape [n, 2], whose
    probability the sampler's mask set to zero; the learner applies the same mask.
    """

    tokens: NDArray[np.int64]
    mask: NDArray[np.bool_]
    old_logprobs: NDArray[np.float32]
    advantage: NDArray[np.float32]
    weight: NDArray[np.float32]
    masked_tokens: NDArray[np.int64]
    ratio: RatioMode = "sampler"
    on_policy: bool = True
    """Is it learned under the context and edits it was sampled under? (Only then is a log-prob mismatch an error.)"""
    kept_gate: float = 1.0
    quarantine_gate: float = 1.0
    policy: bool = True
    """Is it part of the policy loss (with entropy and critic)?"""
    kl: bool = True
    """Is it part of the KL to the reference policy?"""
    imitation: NDArray[np.float32] | None = None
    """Weights of the cross-entropy of the sampled tokens; None: there is none."""
    critic: CriticTargets | None = None
    sampled: Sample | None = None
    """The same loss tokens in the context they were sampled in, where an older version of the policy sampled them and
    `ratio` is not taken against the sampler: there the learner finds the importance weight that the ratio lacks."""

    def __len__(self) -> int:
        return len(self.tokens)
