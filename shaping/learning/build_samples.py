"""From streams to samples: token sequences under the training context, apart by gate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import Contexts, Episode
from shaping.arm import Arm
from shaping.hooks import ActivationEdit, Gates, InterventionError, Knob
from shaping.learning.critic import Estimates
from shaping.learning.sample import Array, CriticTargets, Sample
from shaping.sampling.render import Renderer


@dataclass(frozen=True, slots=True)
class Streams:
    """What is learned from each token: per episode one array [tokens] of each kind."""

    advantage: list[NDArray[np.float32]]
    weight: list[NDArray[np.float32]]
    imitation: list[NDArray[np.float32] | None]
    critic: list[Estimates | None]

    @classmethod
    def of(
        cls, episodes: Sequence[Episode], advantages: Sequence[Array], estimates: Sequence[Estimates] = ()
    ) -> Streams:
        none: list[None] = [None] * len(episodes)
        return cls(
            [a.astype(np.float32) for a in advantages],
            [e.loss_mask.astype(np.float32) for e in episodes],
            [*none],
            [*estimates] or [*none],
        )

    def of_episode(self, i: int) -> Streams:
        return Streams([self.advantage[i]], [self.weight[i]], [self.imitation[i]], [self.critic[i]])


def _stale(episode: Episode, samples: list[Sample]) -> list[Sample]:
    """What an older version sampled differs from what the policy says of it now, as it should."""
    return [
        replace(s, on_policy=False, sampled=None if s.ratio == "sampler" else _as_sampled(s, episode)) for s in samples
    ]


def _as_sampled(sample: Sample, episode: Episode) -> Sample:
    """The loss tokens of `sample` in the sequence that they were sampled in. Nothing is learned from it."""
    # a training context of its own is possible only where the episode is one sequence
    swapped = episode.contexts.sampling.system != episode.contexts.training.system
    tokens = episode.tokens.astype(np.int64) if swapped else sample.tokens
    shift, places = len(tokens) - len(sample), np.flatnonzero(sample.mask)
    mask, old = np.zeros(len(tokens), bool), np.zeros(len(tokens), np.float32)
    mask[places + shift], old[places + shift] = True, sample.old_logprobs[places]
    return Sample(
        tokens=tokens,
        mask=mask,
        old_logprobs=old,
        advantage=np.zeros(len(tokens), np.float32),
        weight=mask.astype(np.float32),
        masked_tokens=sample.masked_tokens + np.array([shift, 0]),
        on_policy=False,
    )


def _kl_apart(episode: Episode, samples: list[Sample], arm: Arm, renderer: Renderer) -> list[Sample]:
    """The samples without KL, and the same tokens under the sampling context with the KL alone.

    Where the contexts are the same, the samples as they are.
    """
    if episode.contexts.sampling.system == episode.contexts.training.system:
        return samples
    sampling = replace(episode, contexts=Contexts(episode.contexts.sampling, episode.contexts.sampling))
    own = to_samples(sampling, Streams.of([episode], [np.zeros(len(episode.tokens))]), arm, renderer)
    return [replace(s, kl=False) for s in samples] + [replace(s, policy=False) for s in own]


def _same(sampling: Sequence[ActivationEdit], training: Sequence[ActivationEdit]) -> bool:
    return len(sampling) == len(training) and all(
        (a.layer, a.kind, a.scale) == (b.layer, b.kind, b.scale) and np.array_equal(a.direction, b.direction)
        for a, b in zip(sampling, training, strict=True)
    )


def to_samples(episode: Episode, streams: Streams, arm: Arm, renderer: Renderer, *, gated: bool = True) -> list[Sample]:
    """One sample per unbroken token sequence and gate, under the training context. Ids are never re-tokenised.

    `streams` are of this episode alone. Where turns have different gates, their tokens are in the loss of different
    samples: gates act on whole micro-batches. `gated=False` leaves the sequences in one piece.
    """
    sampling, training = episode.contexts.sampling, episode.contexts.training
    swapped = sampling.system != training.system
    if swapped and len(episode.segments) > 1:
        raise InterventionError(
            "the training context differs from the sampling one, but this model's chat template breaks the prefix at "
            "every turn: use a template that keeps earlier turns as they were"
        )
    on_policy = not swapped and _learned_as_sampled(arm)
    masked_tokens = np.array([(p, i) for p, ids in episode.masked_tokens() for i in ids], np.int64).reshape(-1, 2)
    gates = _turn_gates(episode, arm) if gated else [Gates()] * len(episode.turns)
    critic = streams.critic[0]
    samples: list[Sample] = []
    for number, (start, stop) in enumerate(pairwise([*episode.segments, len(episode.tokens)])):
        head, new = (0, [])
        if swapped and number == 0:
            head, new = episode.head, renderer.open(training.system, episode.turns[0].observation)
        first, shift = start + head, len(new) - head - start

        def stream(values: NDArray[Any], first: int = first, last: int = stop, pad: int = len(new)) -> NDArray[Any]:
            return np.concatenate([np.zeros((pad, *values.shape[1:]), values.dtype), values[first:last]])

        inside = (masked_tokens[:, 0] >= start) & (masked_tokens[:, 0] < stop)
        whole = Sample(
            tokens=np.concatenate([np.array(new, np.int64), episode.tokens[first:stop].astype(np.int64)]),
            mask=stream(episode.loss_mask),
            old_logprobs=stream(episode.logprobs.astype(np.float32)),
            advantage=stream(streams.advantage[0]),
            weight=stream(streams.weight[0]),
            imitation=None if streams.imitation[0] is None else stream(streams.imitation[0]),
            critic=None if critic is None else CriticTargets(*map(stream, critic.over(episode.loss_mask))),
            masked_tokens=masked_tokens[inside] + np.array([shift, 0]),
            ratio=arm.ratio_mode(),
            on_policy=on_policy,
        )
        samples += _by_gate(whole, stream(episode.turn_index), gates)
    return samples


def _learned_as_sampled(arm: Arm) -> bool:
    """Do edits and adapters agree between sampling and learning? Raises if they do not and nothing sets the ratio."""
    same = _same(arm.edits("sampling"), arm.edits("training")) and all(len(spec.phases) == 2 for spec in arm.adapters())
    if not (same or Knob.RATIO in arm.owner):
        raise InterventionError(
            f"arm {arm.name!r}: activation edits or adapters differ between sampling and training, and no intervention "
            "says what the policy ratio is then; define ratio_mode() and list Knob.RATIO in `owns`"
        )
    return same


def _turn_gates(episode: Episode, arm: Arm) -> list[Gates]:
    """The gates of every turn."""
    owner = arm.owner.get(Knob.GATES)
    gates = arm.gates(episode if owner and owner.oracle else episode.redacted())
    if isinstance(gates, Gates):
        return [gates] * len(episode.turns)
    if len(gates) != len(episode.turns):
        raise InterventionError(
            f"arm {arm.name!r}: {type(owner).__name__}.gates returned {len(gates)} gates for an episode of "
            f"{len(episode.turns)} turns; return one Gates, or one per turn"
        )
    return list(gates)


def _by_gate(sample: Sample, turn: NDArray[np.int16], gates: Sequence[Gates]) -> list[Sample]:
    """The sample, once for every gate among its turns, with the loss on those turns' tokens alone."""
    used = dict.fromkeys(gates[t] for t in turn[sample.mask])
    if len(used) <= 1:
        return [_gated(sample, gate) for gate in used] or [sample]
    parts = []
    for gate in used:
        mask = sample.mask & np.array([t >= 0 and gates[t] == gate for t in turn])
        critic = sample.critic and replace(sample.critic, mask=sample.critic.mask & mask)
        masked_tokens = sample.masked_tokens[mask[sample.masked_tokens[:, 0]]]
        parts.append(_gated(replace(sample, mask=mask, critic=critic, masked_tokens=masked_tokens), gate))
    return parts


def _gated(sample: Sample, gates: Gates) -> Sample:
    return replace(sample, kept_gate=gates.kept, quarantine_gate=gates.quarantine)
