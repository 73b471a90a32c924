"""From finished episodes to per-token streams: returns, costs, advantages, credit, and the training context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.arm import Arm
from shaping.hooks import Credit, Group, InterventionError
from shaping.intervention import Constraint, Intervention
from shaping.learning.advantages import ESTIMATORS, turn_level, with_cost
from shaping.learning.build_samples import Streams, _kl_apart, _stale, to_samples
from shaping.learning.config import AdvantageLevel, Algorithm, KLContext
from shaping.learning.critic import Critic, Estimates, estimate, normalised
from shaping.learning.sample import Array, Sample
from shaping.sampling.render import Renderer


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
    level: AdvantageLevel = "episode",
    critic: Critic | None = None,
    kl_context: KLContext = "training",
    version: int | None = None,
) -> Credited:
    """Per-token streams of finished episodes.

    Args:
        episodes: of whole groups; interventions see redacted copies unless they declare `oracle`.
        rewards: per episode an array [turns].
        algorithm: baseline and scale, of rewards and of each constraint's costs apart.
        level: one advantage for all tokens of an episode, one per turn, or (ppo) one per token.
        critic: of ppo, which needs one.
        kl_context: with `sampling`, episodes whose training context is another one get a second sample, under the
            sampling context, that the KL to the reference policy is taken on.
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
    if kl_context == "sampling":
        samples = [_kl_apart(e, own, arm, renderer) for e, own in zip(episodes, samples, strict=True)]
    mean = [
        float((a * w)[e.loss_mask].mean()) for e, a, w in zip(episodes, streams.advantage, streams.weight, strict=True)
    ]
    flat = [sample for own in samples for sample in own]
    return Credited(flat, returns, costs, advantages, np.array(mean), groups)


def _estimates(
    episodes: Sequence[Episode],
    amounts: Sequence[Sequence[Array] | None],
    arm: Arm,
    renderer: Renderer,
    critic: Critic,
    level: Literal["turn", "token"],
) -> list[Estimates]:
    """What the critic makes of each episode under its training context."""
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


def _token_advantages(
    episodes: Sequence[Episode],
    amounts: Sequence[Array],
    groups: NDArray[np.int64],
    algorithm: Algorithm,
    level: AdvantageLevel,
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
