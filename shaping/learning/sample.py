"""Per-token streams: the learner's whole knowledge of an episode.

Interventions and algorithms write these arrays. The learner sums loss components over them, and does not know which
method wrote them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.frozen import freeze, restore
from shaping.hooks import RatioMode

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CriticTargets:
    """Targets of the critic."""

    old: NDArray[np.float32]
    """Values before the update, shape [tokens, heads]."""
    targets: NDArray[np.float32]
    """Value targets, shape [tokens, heads]."""
    mask: NDArray[np.bool_]
    """True where a step starts, shape [tokens]."""

    def __post_init__(self) -> None:
        freeze(self, "old", "targets", "mask")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)


@dataclass(frozen=True, slots=True)
class Sample:
    """One token sequence to train on. Arrays have shape [tokens] unless another shape is given."""

    tokens: NDArray[np.int64]
    """Token ids."""
    mask: NDArray[np.bool_]
    """True on tokens in the loss."""
    old_logprobs: NDArray[np.float32]
    """The sampler's log-probs, under c_s."""
    advantage: NDArray[np.float32]
    """Advantages; they multiply the policy-gradient term."""
    weight: NDArray[np.float32]
    """Further factors of the policy-gradient term."""
    masked_tokens: NDArray[np.int64]
    """(position, token id) pairs [n, 2] that the sampler's mask made impossible. The learner applies the same mask. A
    position with pairs (position, ~token id) had no other tokens than these."""
    ratio: RatioMode = "sampler"
    """Old log-probs of the policy ratio."""
    on_policy: bool = True
    """True if trained under the context, edits and version it was sampled under. Only then is a log-prob mismatch an
    error."""
    kept_gate: float = 1.0
    """Multiplier in [0, 1] on the gradients of the kept parameters."""
    quarantine_gate: float = 1.0
    """Multiplier in [0, 1] on the gradients of the quarantine parameters."""
    policy: bool = True
    """True if part of the policy loss (with entropy and critic)."""
    kl: bool = True
    """True if part of the KL to the reference policy."""
    imitation: NDArray[np.float32] | None = None
    """Weights of the cross-entropy of the sampled tokens; None: no imitation."""
    critic: CriticTargets | None = None
    """Targets of the critic; None without a critic."""
    sampled: Sample | None = None
    """The same loss tokens in the context they were sampled in. It is set if an older version sampled them and `ratio`
    is not taken against the sampler; the learner computes the missing importance weight from it."""

    episode_tokens: int | None = None
    """Loss tokens of the whole episode, of which gates and broken prefixes make several samples; None: this is all."""
    player: str = ""
    """Whose adapters it trains, where players have their own (`AdapterSpec.player`)."""

    def __post_init__(self) -> None:
        freeze(self, "tokens", "mask", "old_logprobs", "advantage", "weight", "masked_tokens", "imitation")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def loss_positions(self) -> NDArray[np.int64]:
        """Positions of the tokens in the loss. The first of a sequence is none: no hidden state predicts it."""
        return np.flatnonzero(self.mask[1:]) + 1

    @property
    def share(self) -> float:
        """Share of the episode's loss tokens that are in this sample."""
        return 1.0 if self.episode_tokens is None else len(self.loss_positions) / max(self.episode_tokens, 1)
