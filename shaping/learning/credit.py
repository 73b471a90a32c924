"""From finished episodes to per-token streams: returns, costs, advantages, credit, and the learning context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from envs.episode import Contexts, Episode
from shaping.intervention import (
    ActivationEdit,
    Arm,
    Constraint,
    Credit,
    Gates,
    Group,
    Intervention,
    InterventionError,
    Knob,
)
from shaping.learning.advantages import ESTIMATORS, turn_level, with_cost
from shaping.learning.config import Algorithm, CreditLevel, KLContext
from shaping.learning.critic import Critic, Estimates, estimate, normalised
from shaping.learning.sample import CriticTargets, Sample
from shaping.sampling.render import Renderer

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Credited:
    """The credit of one update. Arrays have shape [episodes]; `samples` may be more where prefixes broke."""

    samples: list[Sample]
    returns: Array
    costs: Array
    advantages: Array
    """Of each episode, before constraints and interventions; with turn credit the mean over its loss tokens."""
    credit: Array
    """Mean over loss tokens of advantage times weight, after everything."""
    groups: NDArray[np.int64]


def assign_credit(
    episodes: Sequence[Episode],
    rewards: Sequence[Array],
    arm: Arm,
    renderer: Renderer,
    *,
    algorithm: Algorithm = "grpo",
    level: CreditLevel = "episode",
    critic: Critic | None = None,
    kl_context: KLContext = "learning",
    version: int | None = None,
) -> Credited:
    """Per-token streams of finished episodes.

    Args:
        episodes: of whole groups; interventions see redacted copies unless they declare `oracle`.
        rewards: per episode an array [turns].
        algorithm: baseline and scale, of rewards and of each constraint's costs apart.
        level: one advantage for all tokens of an episode, one per turn, or (ppo) one per token.
        critic: of ppo, which needs one.
        kl_context: with `acting`, episodes whose learning context is another one get a second sample, under the
            acting context, that the KL to the reference policy is taken on.
        version: the policy's. Episodes of older ones are learned off-policy; samples say how, where the ratio does not.
    """
    groups = np.array([e.group for e in episodes], np.int64)
    _check_contexts(episodes)
    returns = np.array([r.sum() for r in rewards], np.float64)
    priced = [_costs(constraint, episodes) for constraint in arm.constraints]
    costs = np.zeros(len(episodes))
    for cost in priced:
        costs += np.array([c.sum() for c in cost]) if cost is not None else 0.0
    estimates: list[Estimates] = []
    if algorithm == "ppo":
        if critic is None or level == "episode":
            raise ValueError("algorithm ppo needs a critic, and credit per turn or token")
        estimates = _estimates(episodes, [rewards, *priced], arm, renderer, critic, level)
        heads = [_spread(episodes, estimates, head) for head in range(1 + len(priced))]
    else:
        heads = [
            _token_advantages(episodes, amounts, groups, algorithm, level) if amounts is not None else []
            for amounts in [rewards, *priced]
        ]
    total = heads[0]
    advantages = np.array([_loss_mean(e, t) for e, t in zip(episodes, total, strict=True)], np.float64)
    for constraint, amounts, head in zip(arm.constraints, priced, heads[1:], strict=True):
        if amounts is not None:
            total = [with_cost(t, p, constraint.weight) for t, p in zip(total, head, strict=True)]
    streams = Streams.of(episodes, total, estimates)
    for intervention in arm.interventions:
        _add_credit(intervention, episodes, groups, returns, advantages, streams)
    samples = [to_samples(e, streams.of_episode(i), arm, renderer) for i, e in enumerate(episodes)]
    if version is not None:
        samples = [own if e.version == version else _stale(e, own) for e, own in zip(episodes, samples, strict=True)]
    if kl_context == "acting":
        samples = [_kl_apart(e, own, arm, renderer) for e, own in zip(episodes, samples, strict=True)]
    mean = [
        float((a * w)[e.loss_mask].mean()) for e, a, w in zip(episodes, streams.advantage, streams.weight, strict=True)
    ]
    flat = [sample for own in samples for sample in own]
    return Credited(flat, returns, costs, advantages, np.array(mean), groups)


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


def _estimates(
    episodes: Sequence[Episode],
    amounts: Sequence[Sequence[Array] | None],
    arm: Arm,
    renderer: Renderer,
    critic: Critic,
    level: Literal["turn", "token"],
) -> list[Estimates]:
    """What the critic makes of each episode under its learning context."""
    blank = Streams.of(episodes, [np.zeros(len(e.tokens)) for e in episodes])
    bare = [to_samples(e, blank.of_episode(i), arm, renderer, gated=False) for i, e in enumerate(episodes)]
    by_episode = [[None if a is None else a[i] for a in amounts] for i in range(len(episodes))]
    return estimate(episodes, by_episode, bare, critic, level)


def _spread(episodes: Sequence[Episode], estimates: Sequence[Estimates], head: int) -> list[Array]:
    """Normalised advantages of one head, [tokens] per episode, zero on all but the sampled tokens."""
    spread = [np.zeros(len(e.tokens)) for e in episodes]
    scaled = normalised([found.advantages[:, head] for found in estimates])
    for episode, tokens, own in zip(episodes, spread, scaled, strict=True):
        tokens[episode.loss_mask] = own
    return spread


def _stale(episode: Episode, samples: list[Sample]) -> list[Sample]:
    """What an older version sampled differs from what the policy says of it now, as it should."""
    return [
        replace(s, on_policy=False, sampled=None if s.ratio == "cross" else _as_sampled(s, episode)) for s in samples
    ]


def _as_sampled(sample: Sample, episode: Episode) -> Sample:
    """The loss tokens of `sample` in the sequence that they were sampled in. Nothing is learned from it."""
    # a learning context of its own is possible only where the episode is one sequence
    swapped = episode.contexts.acting.system != episode.contexts.learning.system
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
        forbidden=sample.forbidden + np.array([shift, 0]),
        on_policy=False,
    )


def _kl_apart(episode: Episode, samples: list[Sample], arm: Arm, renderer: Renderer) -> list[Sample]:
    """The samples without KL, and the same tokens under the acting context with the KL alone.

    Where the contexts are the same, the samples as they are.
    """
    if episode.contexts.acting.system == episode.contexts.learning.system:
        return samples
    acting = replace(episode, contexts=Contexts(episode.contexts.acting, episode.contexts.acting))
    own = to_samples(acting, Streams.of([episode], [np.zeros(len(episode.tokens))]), arm, renderer)
    return [replace(s, kl=False) for s in samples] + [replace(s, policy=False) for s in own]


def _token_advantages(
    episodes: Sequence[Episode],
    amounts: Sequence[Array],
    groups: NDArray[np.int64],
    algorithm: Algorithm,
    level: CreditLevel,
) -> list[Array]:
    """Of rewards or costs per turn, spread over the sampled tokens; zero on all others. One array [tokens] each."""
    if level == "episode":
        totals = np.array([a.sum() for a in amounts], np.float64)
        whole = ESTIMATORS[algorithm](totals, groups)
        return [np.where(e.loss_mask, a, 0.0) for e, a in zip(episodes, whole, strict=True)]
    by_turn = turn_level([np.asarray(a, np.float64) for a in amounts], groups, algorithm)
    spread = [np.zeros(len(e.tokens)) for e in episodes]
    for episode, tokens, turns in zip(episodes, spread, by_turn, strict=True):
        tokens[episode.loss_mask] = turns[episode.turn_index[episode.loss_mask]]
    return spread


def _loss_mean(episode: Episode, values: Array) -> float:
    """Mean over the loss tokens, exact where all are equal: a sum of equal numbers would be rounded."""
    inside = values[episode.loss_mask]
    return float(inside[0] + (inside - inside[0]).mean()) if len(inside) else 0.0


def _seen_by(intervention: Intervention, episode: Episode) -> Episode:
    return episode if intervention.oracle else episode.redacted()


def _check_contexts(episodes: Sequence[Episode]) -> None:
    """A baseline over episodes of different contexts would mix the contexts' effect into the advantage."""
    drawn: dict[int, object] = {}
    for episode in episodes:
        if drawn.setdefault(episode.group, episode.contexts) != episode.contexts:
            raise InterventionError(f"group {episode.group} mixes contexts; one draw per group is required")


def _costs(constraint: Constraint, episodes: Sequence[Episode]) -> list[Array] | None:
    """Per episode an array [turns], or None where the constraint has no price."""
    found = [constraint.cost(_seen_by(constraint, e)) for e in episodes]
    if all(c is None for c in found):
        return None
    costs: list[Array] = []
    for cost, episode in zip(found, episodes, strict=True):
        if cost is None or np.shape(cost) != (len(episode.turns),) or not np.isfinite(cost).all():
            raise InterventionError(
                f"{type(constraint).__name__}.cost must give {len(episode.turns)} finite numbers, one per turn, for "
                f"{episode.world} (seed {episode.seed}); it gave {cost!r}"
            )
        costs.append(cost)
    return costs


def _add_credit(
    intervention: Intervention,
    episodes: Sequence[Episode],
    groups: NDArray[np.int64],
    returns: Array,
    advantages: Array,
    streams: Streams,
) -> None:
    """Ask one intervention for its credit, group by group, and add it in place."""
    if type(intervention).credit is Intervention.credit:
        return
    for number in np.unique(groups):
        members = np.flatnonzero(groups == number)
        shown = tuple(_seen_by(intervention, episodes[i]) for i in members)
        credit = intervention.credit(Group(shown, returns[members], advantages[members]))
        if credit is None:
            continue
        for kind in ("advantage", "weight", "imitation"):
            if (given := len(getattr(credit, kind))) not in (0, len(members)):
                raise InterventionError(
                    f"credit {credit.name!r}: {kind} holds {given} arrays for a group of {len(members)} episodes"
                )
        for position, i in enumerate(members):
            if credit.advantage:
                streams.advantage[i] = streams.advantage[i] + _stream(credit, "advantage", position, episodes[i])
            if credit.weight:
                streams.weight[i] = streams.weight[i] * _stream(credit, "weight", position, episodes[i])
            if credit.imitation:
                before, more = streams.imitation[i], _stream(credit, "imitation", position, episodes[i])
                streams.imitation[i] = more if before is None else before + more


def _stream(credit: Credit, kind: str, position: int, episode: Episode) -> NDArray[np.float32]:
    values = np.asarray(getattr(credit, kind)[position], np.float32)
    if values.shape != episode.tokens.shape or not np.isfinite(values).all():
        raise InterventionError(
            f"credit {credit.name!r}: {kind} must hold {len(episode.tokens)} finite numbers, one per token"
        )
    return np.where(episode.loss_mask, values, 0.0).astype(np.float32)


def _same(acting: Sequence[ActivationEdit], learning: Sequence[ActivationEdit]) -> bool:
    return len(acting) == len(learning) and all(
        (a.layer, a.kind, a.scale) == (b.layer, b.kind, b.scale) and np.array_equal(a.direction, b.direction)
        for a, b in zip(acting, learning, strict=True)
    )


def to_samples(episode: Episode, streams: Streams, arm: Arm, renderer: Renderer, *, gated: bool = True) -> list[Sample]:
    """One sample per unbroken token sequence and gate, under the learning context. Ids are never re-tokenised.

    `streams` are of this episode alone. Where turns have different gates, their tokens are in the loss of different
    samples: gates act on whole micro-batches. `gated=False` leaves the sequences in one piece.
    """
    acting, learning = episode.contexts.acting, episode.contexts.learning
    swapped = acting.system != learning.system
    if swapped and len(episode.segments) > 1:
        raise InterventionError(
            "the learning context differs from the acting one, but this model's chat template breaks the prefix at "
            "every turn: use a template that keeps earlier turns as they were"
        )
    on_policy = not swapped and _learned_as_sampled(arm)
    forbidden = np.array([(p, i) for p, ids in episode.forbidden() for i in ids], np.int64).reshape(-1, 2)
    gates = _turn_gates(episode, arm) if gated else [Gates()] * len(episode.turns)
    critic = streams.critic[0]
    samples: list[Sample] = []
    for number, (start, stop) in enumerate(pairwise([*episode.segments, len(episode.tokens)])):
        head, new = (0, [])
        if swapped and number == 0:
            head, new = episode.head, renderer.open(learning.system, episode.turns[0].observation)
        first, shift = start + head, len(new) - head - start

        def stream(values: NDArray[Any], first: int = first, last: int = stop, pad: int = len(new)) -> NDArray[Any]:
            return np.concatenate([np.zeros((pad, *values.shape[1:]), values.dtype), values[first:last]])

        inside = (forbidden[:, 0] >= start) & (forbidden[:, 0] < stop)
        whole = Sample(
            tokens=np.concatenate([np.array(new, np.int64), episode.tokens[first:stop].astype(np.int64)]),
            mask=stream(episode.loss_mask),
            old_logprobs=stream(episode.logprobs.astype(np.float32)),
            advantage=stream(streams.advantage[0]),
            weight=stream(streams.weight[0]),
            imitation=None if streams.imitation[0] is None else stream(streams.imitation[0]),
            critic=None if critic is None else CriticTargets(*map(stream, critic.over(episode.loss_mask))),
            forbidden=forbidden[inside] + np.array([shift, 0]),
            ratio=arm.ratio_mode(),
            on_policy=on_policy,
        )
        samples += _by_gate(whole, stream(episode.turn_index), gates)
    return samples


def _learned_as_sampled(arm: Arm) -> bool:
    """Do edits and adapters agree between sampling and learning? Raises if they do not and nothing sets the ratio."""
    same = _same(arm.edits("acting"), arm.edits("learning")) and all(len(spec.phases) == 2 for spec in arm.adapters())
    if not (same or Knob.RATIO in arm.owner):
        raise InterventionError(
            f"arm {arm.name!r}: activation edits or adapters differ between sampling and learning, and no intervention "
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
        forbidden = sample.forbidden[mask[sample.forbidden[:, 0]]]
        parts.append(_gated(replace(sample, mask=mask, critic=critic, forbidden=forbidden), gate))
    return parts


def _gated(sample: Sample, gates: Gates) -> Sample:
    return replace(sample, kept_gate=gates.kept, quarantine_gate=gates.quarantine)
