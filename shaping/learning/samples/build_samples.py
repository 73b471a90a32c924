"""From streams to samples: token sequences under the training context, split by gate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import Contexts, Episode
from shaping.arm import Arm
from shaping.hooks import ActivationEdit, Gates, InterventionError, Knob
from shaping.learning.credit.critic import Estimates
from shaping.learning.samples.forced import forced_tokens, stripped_tokens
from shaping.learning.samples.sample import Array, CriticTargets, ForcedTokens, Origin, Sample
from shaping.sampling.text.render import Renderer


@dataclass(frozen=True, slots=True)
class Streams:
    """The learning signal of every token: per episode one array [tokens] of each kind."""

    advantage: list[NDArray[np.float32]]
    """Advantages."""
    weight: list[NDArray[np.float32]]
    """Factors of the policy-gradient term; 0 outside the loss."""
    imitation: list[NDArray[np.float32] | None]
    """Weights of the cross-entropy; None: no imitation."""
    critic: list[Estimates | None]
    """The critic's estimates; None without a critic."""
    loss: list[NDArray[np.bool_]]
    """True on the tokens that are in the loss."""

    @classmethod
    def of(
        cls, episodes: Sequence[Episode], advantages: Sequence[Array], estimates: Sequence[Estimates] = ()
    ) -> Streams:
        """Streams with weight one on loss tokens, and without imitation."""
        none: list[None] = [None] * len(episodes)
        return cls(
            [a.astype(np.float32) for a in advantages],
            [e.loss_mask.astype(np.float32) for e in episodes],
            [*none],
            [*estimates] or [*none],
            [e.loss_mask for e in episodes],
        )

    def of_episode(self, i: int) -> Streams:
        """The streams of one episode."""
        return Streams([self.advantage[i]], [self.weight[i]], [self.imitation[i]], [self.critic[i]], [self.loss[i]])

    def signal(self) -> list[Array]:
        """Advantage x weight, an array [tokens] per episode."""
        return [np.asarray(a * w, np.float64) for a, w in zip(self.advantage, self.weight, strict=True)]

    def leave_out_overlong(self, episodes: Sequence[Episode]) -> None:
        """Take the completions that were cut off out of the loss."""
        for i, episode in enumerate(episodes):
            cut = np.array([turn.overlong for turn in episode.turns], bool)
            if cut.any():
                inside = (episode.turn_index >= 0) & (episode.turn_index < len(cut))  # an unanswered turn has no Turn
                kept = episode.loss_mask & ~(inside & cut[np.where(inside, episode.turn_index, 0)])
                self.loss[i] = kept
                self.weight[i] = np.where(kept, self.weight[i], 0.0).astype(np.float32)


def mark_off_policy(episode: Episode, samples: list[Sample]) -> list[Sample]:
    """Mark samples of an older policy version as off-policy, so that no mismatch of log-probs is an error.

    Where the ratio is not taken against the sampler, `Sample.sampled` gets the sequence as it was sampled.
    """
    return [
        replace(s, on_policy=False, sampled=None if s.ratio == "sampler" else _as_sampled(s, episode)) for s in samples
    ]


def _as_sampled(sample: Sample, episode: Episode) -> Sample:
    """The loss tokens of `sample` in the sequence that they were sampled in. It is never trained on."""
    # Only an episode of one sequence can have a different training context, or be learned without its forced tokens.
    stripped = stripped_tokens(episode)
    changed = episode.contexts.sampling.system != episode.contexts.training.system or bool(stripped.any())
    # It ends with its last sampled token, as the sample does: what the episode saw later is in no loss.
    end = int(np.flatnonzero(episode.loss_mask).max(initial=-1)) + 1
    tokens = episode.tokens[:end].astype(np.int64) if changed else sample.tokens
    places = np.flatnonzero(~stripped[:end]) if changed else np.arange(len(tokens))
    shift, positions = len(places) - len(sample), np.flatnonzero(sample.drawn)
    mask, old = np.zeros(len(tokens), bool), np.zeros(len(tokens), np.float32)
    mask[places[positions + shift]], old[places[positions + shift]] = True, sample.old_logprobs[positions]
    masked_tokens = sample.masked_tokens.copy()
    masked_tokens[:, 0] = places[masked_tokens[:, 0] + shift]
    return Sample(
        tokens=tokens,
        mask=mask,
        old_logprobs=old,
        advantage=np.zeros(len(tokens), np.float32),
        weight=mask.astype(np.float32),
        masked_tokens=masked_tokens,
        on_policy=False,
    )


def separate_kl(
    episode: Episode, samples: list[Sample], loss: NDArray[np.bool_], arm: Arm, renderer: Renderer
) -> list[Sample]:
    """The samples without KL, and the same tokens under the sampling context with only the KL.

    `loss` [tokens] is True on those in the loss. If both contexts are the same, the samples are returned unchanged.
    """
    if episode.contexts.sampling.system == episode.contexts.training.system and not stripped_tokens(episode).any():
        return samples
    whole = tuple(replace(turn, forced=turn.forced._replace(stripped=False)) for turn in episode.turns)
    sampling = replace(episode, contexts=Contexts(episode.contexts.sampling, episode.contexts.sampling), turns=whole)
    streams = replace(Streams.of([episode], [np.zeros(len(episode.tokens))]), loss=[loss])
    kl_samples = to_samples(sampling, streams, arm, renderer)
    return [replace(s, kl=False) for s in samples] + [replace(s, policy=False) for s in kl_samples]


def _same_edits(sampling: Sequence[ActivationEdit], training: Sequence[ActivationEdit]) -> bool:
    return len(sampling) == len(training) and all(
        (a.layer, a.kind, a.scale) == (b.layer, b.kind, b.scale) and np.array_equal(a.direction, b.direction)
        for a, b in zip(sampling, training, strict=True)
    )


def to_samples(
    episode: Episode, streams: Streams, arm: Arm, renderer: Renderer, *, gated: bool = True, number: int = 0
) -> list[Sample]:
    """One sample per unbroken token sequence and gate, under the training context. Ids are never re-tokenised.

    Turns with different gates are in the loss of different samples, because gates act on whole micro-batches.

    Args:
        streams: the streams of this episode alone.
        gated: False: one sample per sequence, whatever the gates, with the observation after which an episode was cut
            off, at which a critic reads its value.
        number: the episode's in the update.
    Raises: `InterventionError` if the contexts differ and the chat template breaks the prefix, if edits or adapters
    differ between sampling and training and no intervention sets the ratio, or if `gates` returns a wrong number.
    """
    sampling, training = episode.contexts.sampling, episode.contexts.training
    swapped, kept = sampling.system != training.system, ~stripped_tokens(episode)
    as_sampled = not swapped and bool(kept.all())
    if not as_sampled:
        _refuse_broken(episode)
    on_policy = _trained_as_sampled(arm) and as_sampled
    forced = forced_tokens(episode)
    gates = _turn_gates(episode, arm) if gated else [Gates()] * len(episode.turns)
    critic, loss = streams.critic[0], streams.loss[0]
    masked_tokens, samples = _masked_tokens(episode, loss), list[Sample]()
    for part, (start, stop) in enumerate(pairwise([*episode.segments, len(episode.tokens)])):
        if gated:
            stop = start + int(np.flatnonzero(episode.loss_mask[start:stop]).max(initial=-1)) + 1
            if stop == start:  # a template that breaks the prefix has put the last observation into its own sequence
                continue
        head, new = (0, [])
        if swapped and part == 0:
            head, new = episode.head, renderer.open(training.system, episode.turns[0].observation)
        first, shift = start + head, len(new) - head - start

        def stream(values: NDArray[Any], first: int = first, last: int = stop, pad: int = len(new)) -> NDArray[Any]:
            if as_sampled:
                return values[first:last]  # a sample copies what can be written to
            parts = [np.zeros((pad, *values.shape[1:]), values.dtype), values[first:last][kept[first:last]]]
            return np.concatenate(parts)

        inside = masked_tokens[(masked_tokens[:, 0] >= start) & (masked_tokens[:, 0] < stop)]
        gone = np.cumsum(~kept)[inside[:, 0]]  # stripped tokens before each; those of earlier segments are none
        whole = Sample(
            tokens=np.concatenate([np.array(new, np.int64), stream(episode.tokens.astype(np.int64))[len(new) :]]),
            mask=stream(loss),
            old_logprobs=stream(episode.logprobs.astype(np.float32)),
            advantage=stream(streams.advantage[0]),
            weight=stream(streams.weight[0]),
            imitation=None if streams.imitation[0] is None else stream(streams.imitation[0]),
            critic=None if critic is None else _critic_targets(critic, episode, loss, stream),
            masked_tokens=inside + np.stack([shift - gone, np.zeros_like(gone)], axis=1),
            ratio=arm.ratio_mode(),
            on_policy=on_policy,
            forced=forced and ForcedTokens(stream(forced.tokens), stream(forced.turn), forced.proposal),
            episode_tokens=int(episode.loss_mask.sum()),
            origin=_origin(episode, number, part, len(new), stream),
        )
        samples += _split_by_gate(whole, stream(episode.turn_index), gates)
    return samples


def _masked_tokens(episode: Episode, loss: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(position, token id) pairs [n, 2] of impossible tokens, where tokens are in the loss."""
    pairs = np.array([(p, i) for p, ids in episode.masked_tokens() for i in ids], np.int64).reshape(-1, 2)
    return pairs[loss[pairs[:, 0]]]


def _refuse_broken(episode: Episode) -> None:
    if len(episode.segments) > 1:
        raise InterventionError(
            "the training context differs from the sampling one, or text that opens completions is left out, but this "
            "model's chat template breaks the prefix at every turn: use a template that keeps earlier turns unchanged"
        )


def _origin(
    episode: Episode, number: int, part: int, new: int, stream: Callable[[NDArray[Any]], NDArray[Any]]
) -> Origin:
    """Where the tokens of one part of an episode come from; `new`: tokens that render another training context."""
    first = part == 0 and bool(episode.turns)
    head, observation = (new or episode.head, episode.turns[0].observation) if first else (0, "")
    return Origin(number, stream(episode.turn_index), stream(episode.span_kind), head, observation)


def _critic_targets(
    critic: Estimates, episode: Episode, loss: NDArray[np.bool_], stream: Callable[[NDArray[Any]], NDArray[Any]]
) -> CriticTargets:
    old, targets, starts = critic.over(episode.loss_mask)
    return CriticTargets(stream(old), stream(targets), stream(starts & loss))


def _trained_as_sampled(arm: Arm) -> bool:
    """True if edits and adapters are the same in both phases. Raises if they differ and no hook sets the ratio."""
    same = _same_edits(arm.edits("sampling"), arm.edits("training"))
    same = same and all(len(spec.phases) != 1 for spec in arm.adapters())
    if not (same or arm.names_ratio):
        raise InterventionError(
            f"arm {arm.name!r}: activation edits or adapters differ between sampling and training, and no intervention "
            "sets the policy ratio for that case; define ratio_mode() and list Knob.RATIO in `owns`"
        )
    return same


def _turn_gates(episode: Episode, arm: Arm) -> list[Gates]:
    """The gates of every turn."""
    owner = arm.owner.get(Knob.GATES)
    gates = arm.gates(episode if owner and owner.reads_truth else episode.redacted())
    if isinstance(gates, Gates):
        return [gates] * len(episode.turns)
    if len(gates) != len(episode.turns):
        raise InterventionError(
            f"arm {arm.name!r}: {type(owner).__name__}.gates returned {len(gates)} gates for an episode of "
            f"{len(episode.turns)} turns; return one Gates, or one per turn"
        )
    return list(gates)


def _split_by_gate(sample: Sample, turn: NDArray[np.int16], gates: Sequence[Gates]) -> list[Sample]:
    """One copy of the sample for every gate among its turns, with the loss on those turns only."""
    used = dict.fromkeys(gates[t] for t in np.unique(turn[sample.mask]).tolist())
    if len(used) <= 1:
        return [_gated(sample, gate) for gate in used] or [sample]
    parts = []
    for gate in used:
        mask = sample.mask & np.isin(turn, [t for t, each in enumerate(gates) if each == gate])
        critic = sample.critic and replace(sample.critic, mask=sample.critic.mask & mask)
        masked_tokens = sample.masked_tokens[mask[sample.masked_tokens[:, 0]]]
        parts.append(_gated(replace(sample, mask=mask, critic=critic, masked_tokens=masked_tokens), gate))
    return parts


def _gated(sample: Sample, gates: Gates) -> Sample:
    if (sample.kept_gate, sample.quarantine_gate) == (gates.kept, gates.quarantine):
        return sample
    return replace(sample, kept_gate=gates.kept, quarantine_gate=gates.quarantine)
