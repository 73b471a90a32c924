"""Per-token streams: the learner's whole knowledge of an episode.

Interventions and algorithms write these arrays. The learner sums loss components over them, and does not know which
method wrote them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

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


@dataclass(frozen=True, slots=True, eq=False)
class Origin:
    """Where the tokens of a sample come from. Arrays have shape [tokens]; they hold where tokens are in the loss."""

    episode: int
    """Number of the episode in the update."""
    turn: NDArray[np.int16]
    """Turns."""
    kind: NDArray[np.int8]
    """`envs.episode.SpanKind`s."""
    head: int = 0
    """Tokens that render the context and the first observation; 0 if the sample does not begin there."""
    observation: str = ""
    """The first observation, if it begins there."""

    def __post_init__(self) -> None:
        freeze(self, "turn", "kind")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Origin):
            return NotImplemented
        alike = np.array_equal(self.turn, other.turn) and np.array_equal(self.kind, other.kind)
        same = (self.episode, self.head, self.observation) == (other.episode, other.head, other.observation)
        return alike and same

    __hash__ = None  # type: ignore[assignment]

    def __setstate__(self, state: Any) -> None:
        restore(self, state)


@dataclass(frozen=True, slots=True)
class ForcedTokens:
    """Tokens that belong to completions but were not sampled: the sampler has no log-prob of them."""

    tokens: NDArray[np.bool_]
    """True on them, shape [tokens]."""
    turn: NDArray[np.int16]
    """The turn of each token, shape [tokens]; -1 before the first."""
    proposal: Mapping[int, float]
    """Turn whose weight is corrected -> log-prob of its forced tokens under the proposal that drew them."""

    def __post_init__(self) -> None:
        freeze(self, "tokens", "turn", "proposal")

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

    forced: ForcedTokens | None = None
    """Tokens that were not sampled; None: all tokens of completions were. The learner sets their old log-probs."""
    episode_tokens: int | None = None
    """Loss tokens of the whole episode, of which gates and broken prefixes make several samples; None: this is all."""
    player: str = ""
    """Whose adapters it trains, where players have their own (`AdapterSpec.player`)."""
    origin: Origin | None = None
    """The turns of its tokens; None for samples that are made of no episode."""

    def __post_init__(self) -> None:
        freeze(self, "tokens", "mask", "old_logprobs", "advantage", "weight", "masked_tokens", "imitation")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def drawn(self) -> NDArray[np.bool_]:
        """True on tokens in the loss that the sampler drew, shape [tokens]."""
        return self.mask if self.forced is None else self.mask & ~self.forced.tokens

    @property
    def loss_positions(self) -> NDArray[np.int64]:
        """Positions of the tokens in the loss. The first of a sequence is none: no hidden state predicts it."""
        return np.flatnonzero(self.mask[1:]) + 1

    @property
    def share(self) -> float:
        """Share of the episode's loss tokens that are in this sample."""
        return 1.0 if self.episode_tokens is None else len(self.loss_positions) / max(self.episode_tokens, 1)


def not_finite(samples: Sequence[Sample]) -> str:
    """Name the first array that is not finite; empty if all are finite."""
    for number, sample in enumerate(samples):
        for name in ("advantage", "weight", "old_logprobs", "imitation"):
            array = getattr(sample, name)
            if array is not None and not np.isfinite(array).all():
                return f"sample {number} of {len(samples)} has a non-finite {name}"
        if sample.critic is not None and not np.isfinite([sample.critic.old, sample.critic.targets]).all():
            return f"sample {number} of {len(samples)} has a non-finite value or value target"
    return ""


def value_targets(samples: Sequence[Sample], device: torch.device) -> Tensor:
    """The critic's targets, [steps, heads]."""
    targets = [s.critic.targets[s.critic.mask] for s in samples if s.critic is not None]
    return torch.from_numpy(np.concatenate(targets)).to(device) if targets else torch.zeros(0, 1, device=device)


def critic_metrics(samples: Sequence[Sample]) -> dict[str, float]:
    """Share of the variance of the reward's value targets that the critic's old values explain."""
    critics = [s.critic for s in samples if s.critic is not None]
    if not critics:
        return {}
    targets = np.concatenate([c.targets[c.mask, 0] for c in critics])
    old = np.concatenate([c.old[c.mask, 0] for c in critics])
    variance = float(targets.var())
    return {"explained_variance": 1.0 - float((targets - old).var()) / variance if variance > 0 else 0.0}
