"""From finished episodes to per-token streams: returns, costs, advantages, credit, and the learning context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.intervention import (
    ActivationEdit,
    Arm,
    Constraint,
    Credit,
    Group,
    Intervention,
    InterventionError,
    Knob,
)
from shaping.learning.advantages import ESTIMATORS, turn_level, with_cost
from shaping.learning.config import Algorithm, CreditLevel
from shaping.learning.sample import Sample
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
) -> Credited:
    """Per-token streams of finished episodes.

    Args:
        episodes: of whole groups; interventions see redacted copies unless they declare `oracle`.
        rewards: per episode an array [turns].
        algorithm: baseline and scale, of rewards and of each constraint's costs apart.
        level: one advantage for all tokens of an episode, or one per turn from its return-to-go.
    """
    groups = np.array([e.group for e in episodes], np.int64)
    _check_contexts(episodes)
    returns = np.array([r.sum() for r in rewards], np.float64)
    total = _token_advantages(episodes, rewards, groups, algorithm, level)
    advantages = np.array([_loss_mean(e, t) for e, t in zip(episodes, total, strict=True)], np.float64)
    costs = np.zeros(len(episodes))
    for constraint in arm.constraints:
        if (cost := _costs(constraint, episodes)) is not None:
            costs += np.array([c.sum() for c in cost])
            priced = _token_advantages(episodes, cost, groups, algorithm, level)
            total = [with_cost(t, p, constraint.weight) for t, p in zip(total, priced, strict=True)]
    advantage = [t.astype(np.float32) for t in total]
    weight = [e.loss_mask.astype(np.float32) for e in episodes]
    for intervention in arm.interventions:
        _add_credit(intervention, episodes, groups, returns, advantages, advantage, weight)
    samples = [
        sample
        for episode, a, w in zip(episodes, advantage, weight, strict=True)
        for sample in to_samples(episode, a, w, arm, renderer)
    ]
    mean = [float((a * w)[e.loss_mask].mean()) for e, a, w in zip(episodes, advantage, weight, strict=True)]
    return Credited(samples, returns, costs, advantages, np.array(mean), groups)


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
    advantage: list[NDArray[np.float32]],
    weight: list[NDArray[np.float32]],
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
        for kind in ("advantage", "weight"):
            if (given := len(getattr(credit, kind))) not in (0, len(members)):
                raise InterventionError(
                    f"credit {credit.name!r}: {kind} holds {given} arrays for a group of {len(members)} episodes"
                )
        for position, i in enumerate(members):
            if credit.advantage:
                advantage[i] = advantage[i] + _stream(credit, "advantage", position, episodes[i])
            if credit.weight:
                weight[i] = weight[i] * _stream(credit, "weight", position, episodes[i])


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


def to_samples(
    episode: Episode, advantage: NDArray[np.float32], weight: NDArray[np.float32], arm: Arm, renderer: Renderer
) -> list[Sample]:
    """One sample per unbroken token sequence, under the learning context. Sampled ids are never re-tokenised."""
    acting, learning = episode.contexts.acting, episode.contexts.learning
    swapped = acting.system != learning.system
    if swapped and len(episode.segments) > 1:
        raise InterventionError(
            "the learning context differs from the acting one, but this model's chat template breaks the prefix at "
            "every turn: use a template that keeps earlier turns as they were"
        )
    owner = arm.owner.get(Knob.GATES)
    gates = arm.gates(episode if owner and owner.oracle else episode.redacted())
    forbidden = np.array([(p, i) for p, ids in episode.forbidden() for i in ids], np.int64).reshape(-1, 2)
    on_policy = not swapped and _same(arm.edits("acting"), arm.edits("learning"))
    if not (on_policy or swapped or Knob.RATIO in arm.owner):
        raise InterventionError(
            f"arm {arm.name!r}: activation edits differ between sampling and learning, and no intervention says what "
            "the policy ratio is then; define ratio_mode() and list Knob.RATIO in `owns`"
        )
    samples = []
    bounds = [*episode.segments, len(episode.tokens)]
    for number, (start, stop) in enumerate(pairwise(bounds)):
        head, new = (0, [])
        if swapped and number == 0:
            head, new = episode.head, renderer.open(learning.system, episode.turns[0].observation)
        shift = len(new) - head - start
        inside = (forbidden[:, 0] >= start) & (forbidden[:, 0] < stop)
        pad = np.zeros(len(new), np.float32)

        def stream(values: NDArray[np.float32], first: int = start + head, last: int = stop) -> NDArray[np.float32]:
            return np.concatenate([pad, values[first:last].astype(np.float32)])  # noqa: B023

        samples.append(
            Sample(
                tokens=np.concatenate([np.array(new, np.int64), episode.tokens[start + head : stop].astype(np.int64)]),
                mask=np.concatenate([pad.astype(bool), episode.loss_mask[start + head : stop]]),
                old_logprobs=stream(episode.logprobs),
                advantage=stream(advantage),
                weight=stream(weight),
                forbidden=forbidden[inside] + np.array([shift, 0]),
                ratio=arm.ratio_mode(),
                on_policy=on_policy,
                kept_gate=gates.kept,
                quarantine_gate=gates.quarantine,
            )
        )
    return samples
