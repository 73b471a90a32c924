"""From finished episodes to per-token streams: returns, costs, advantages, credit, and the training context."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.calls import call
from envs.episode import Episode
from shaping.arm import Arm
from shaping.hooks import Credit, Group, InterventionError, Pricing
from shaping.intervention import Constraint, Intervention
from shaping.learning.config import SPREAD_FLOOR, AdvantageLevel, Algorithm, KLContext, Overlong
from shaping.learning.credit.advantages import Comparison, TurnLevel, with_cost
from shaping.learning.credit.answered import miscounted, token_stream
from shaping.learning.credit.costs import costs_of
from shaping.learning.credit.credit_parts import CreditPart, PartsOfCredit
from shaping.learning.credit.critic import Critic, Estimates, divided, estimate
from shaping.learning.credit.screening import screened
from shaping.learning.credit.variance import uninformative
from shaping.learning.samples.build_samples import Streams, mark_off_policy, separate_kl, to_samples
from shaping.learning.samples.contexts import check_contexts, with_own_contexts
from shaping.learning.samples.rehearsals import rehearsed
from shaping.learning.samples.sample import Array, Sample
from shaping.sampling.text.render import Renderer


class CreditError(ValueError):
    """Rewards or costs have no usable advantages."""


@dataclass(frozen=True, slots=True)
class Credited:
    """The credit of one update. Arrays have shape [episodes]."""

    samples: list[Sample]
    """Samples to train on; an episode has several if its prefix breaks, its gates differ or its KL is separate."""
    returns: Array
    """Sums of rewards."""
    costs: Array
    """Sums of costs, over all constraints."""
    advantages: Array
    """Advantages before constraints and interventions; per turn or token: the mean over the loss tokens."""
    credit: Array
    """Mean over loss tokens of advantage times weight, after constraints and interventions."""
    groups: NDArray[np.int64]
    """Group numbers."""
    floored: float | None = None
    """Share of the groups whose advantages the floor divided; None for algorithms that divide by nothing."""
    parts: tuple[CreditPart, ...] = ()
    """What each intervention added, by name."""
    uninformative: float | None = None
    """Share of the groups in which neither rewards nor priced costs vary."""
    kept: NDArray[np.bool_] | None = None
    """False for episodes that a constraint screened out, shape [episodes]; None: no constraint screens."""
    episodes: tuple[Episode, ...] = ()
    """All episodes, with the contexts that they are learned under."""

    def among(self, kept: NDArray[np.bool_], episodes: Sequence[Episode], returns: Array, costs: Array) -> Credited:
        """The same credit among all episodes, of which these were `kept` [episodes]; the others have zeros."""
        advantages, credit = np.zeros(len(kept)), np.zeros(len(kept))
        advantages[kept], credit[kept] = self.advantages, self.credit
        groups = np.array([e.group for e in episodes], np.int64)
        parts = tuple(part.among(np.flatnonzero(kept), len(kept)) for part in self.parts)
        found = replace(self, returns=returns, costs=costs, advantages=advantages, credit=credit, groups=groups)
        return replace(found, parts=parts, kept=kept, episodes=tuple(episodes))


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
    spread_floor: float = SPREAD_FLOOR,
    overlong: Overlong = "train",
    rehearse: bool = True,
) -> Credited:
    """Turn finished episodes into samples with per-token streams; screened ones are in no baseline and no sample.

    Args:
        episodes: whole groups; interventions see redacted copies unless they declare `oracle`.
        rewards: an array [turns] per episode.
        algorithm: baselines of rewards and of each constraint's costs, and the one number that divides them all.
        level: one advantage per episode, per turn, or (ppo) per token.
        critic: the critic that ppo needs.
        kl_context: with `sampling`, an episode with a different training context gets a second sample under the
            sampling context, for the KL to the reference policy.
        version: the policy's version; episodes of older versions become off-policy. None: all are of this version.
        spread_floor: smallest such number, as a share of the largest |return| (`LearnerConfig.spread_floor`).
        overlong: `mask`: completions that were cut off are in no loss; their rewards count all the same.
        rehearse: are there samples of what interventions rehearse, too?
    Raises: `InterventionError` if the members of a group were played under several contexts, or a hook returns a wrong
    shape or a non-finite number.
    """
    check_contexts(episodes)
    episodes = with_own_contexts(episodes, arm, renderer)
    priced = [costs_of(constraint, episodes) for constraint in arm.constraints]
    assigned = partial(
        _assigned,
        arm=arm,
        renderer=renderer,
        algorithm=algorithm,
        level=level,
        critic=critic,
        kl_context=kl_context,
        version=version,
        spread_floor=spread_floor,
        overlong=overlong,
        rehearse=rehearse,
    )
    kept = screened(arm.constraints, episodes, rewards)
    if kept is None:
        return replace(assigned(episodes, rewards, priced), episodes=tuple(episodes))
    inside = np.flatnonzero(kept)
    few = Credited([], *(np.zeros(0),) * 4, np.zeros(0, np.int64))
    if len(inside):
        few = assigned(
            [episodes[i] for i in inside],
            [rewards[i] for i in inside],
            [None if costs is None else [costs[i] for i in inside] for costs in priced],
        )
    return few.among(kept, episodes, _sums(rewards), _total(priced, len(episodes)))


Costs = Sequence[Array] | None
"""Of one constraint: an array [turns] per episode; None without a price."""


def _assigned(
    episodes: Sequence[Episode],
    rewards: Sequence[Array],
    priced: Sequence[Costs],
    *,
    arm: Arm,
    renderer: Renderer,
    algorithm: Algorithm,
    level: AdvantageLevel,
    critic: Critic | None,
    kl_context: KLContext,
    version: int | None,
    spread_floor: float,
    overlong: Overlong,
    rehearse: bool,
) -> Credited:
    """As `assign_credit`, of the episodes that stay, with the costs of each constraint."""
    groups = np.array([e.group for e in episodes], np.int64)
    returns, costs = _sums(rewards), _total(priced, len(episodes))
    pricings = [constraint.pricing for constraint in arm.constraints]
    # a cost without weight is measured, but leaves advantages and critic as they are without it
    charged = [p if pricing.rate else None for pricing, p in zip(pricings, priced, strict=True)]
    apart = [False, *(pricing.apart for pricing in pricings)]
    estimates: list[Estimates] = []
    if algorithm == "ppo":
        if critic is None or level == "episode":
            raise ValueError("algorithm ppo needs a critic, and advantages per turn or token")
        estimates = _estimates(episodes, [rewards, *charged], arm, renderer, critic, level)
        own = {head: _sums(a) for head, a in enumerate([None, *charged]) if a is not None and apart[head]}
        of_heads, floored = divided(estimates, returns, spread_floor, own)
        heads = [_on_tokens(episodes, head) for head in of_heads]
    else:
        heads, floored = _token_advantages(episodes, [rewards, *charged], groups, algorithm, level, spread_floor, apart)
    total = heads[0]
    advantages = np.array([_loss_mean(e, t) for e, t in zip(episodes, total, strict=True)], np.float64)
    parts = PartsOfCredit(episodes, total)
    total = _with_costs(total, arm, pricings, charged, heads[1:], parts)
    _check_range(total, algorithm)
    streams = Streams.of(episodes, total, estimates)
    _add_credits(arm, episodes, groups, returns, advantages, streams, parts)
    if overlong == "mask":
        streams.leave_out_overlong(episodes)
    samples = _samples(episodes, streams, arm, renderer, kl_context, version)
    samples += rehearsed(arm.interventions, episodes, renderer) if rehearse else []
    mean = _mean_credit(episodes, streams)
    silent = len(uninformative([rewards, *charged], groups, level)) / max(len(np.unique(groups)), 1)
    return Credited(samples, returns, costs, advantages, mean, groups, floored, parts.result(arm.interventions), silent)


def _with_costs(
    total: list[Array],
    arm: Arm,
    pricings: Sequence[Pricing],
    charged: Sequence[Costs],
    heads: Sequence[list[Array]],
    parts: PartsOfCredit,
) -> list[Array]:
    """The advantages [tokens] of rewards with the weighted ones of the costs that have a price (see `Pricing`)."""
    averaged: dict[int, float] = {}
    places = [place for place, each in enumerate(arm.interventions) if isinstance(each, Constraint)]
    for place, pricing, amounts, head in zip(places, pricings, charged, heads, strict=True):
        if amounts is not None:
            before = total
            total = [with_cost(t, p, pricing.rate) for t, p in zip(total, head, strict=True)]
            parts.add(place, before, total)
            if pricing.averaged and pricing.rate:
                averaged[place] = pricing.rate
    if averaged:  # the division is counted to the first that asks for it
        before, total = total, [t / (1.0 + sum(averaged.values())) for t in total]
        parts.add(min(averaged), before, total)
    return total


def _total(priced: Sequence[Costs], episodes: int) -> Array:
    """Costs of all constraints, shape [episodes]."""
    costs = np.zeros(episodes)
    for cost in priced:
        costs += np.array([c.sum() for c in cost]) if cost is not None else 0.0
    return costs


def _mean_credit(episodes: Sequence[Episode], streams: Streams) -> Array:
    """Mean over the sampled tokens of advantage times weight, shape [episodes]."""
    each = zip(episodes, streams.advantage, streams.weight, strict=True)
    return np.array([float((a * w)[e.loss_mask].mean()) for e, a, w in each])


def _samples(
    episodes: Sequence[Episode],
    streams: Streams,
    arm: Arm,
    renderer: Renderer,
    kl_context: KLContext,
    version: int | None,
) -> list[Sample]:
    """The samples of all episodes, in order, but of none that is in no loss."""
    samples: list[Sample] = []
    for i, episode in enumerate(episodes):
        of_episode = to_samples(episode, streams.of_episode(i), arm, renderer, number=i)
        if version is not None and episode.version != version:
            of_episode = mark_off_policy(episode, of_episode)
        if kl_context == "sampling":
            of_episode = separate_kl(episode, of_episode, streams.loss[i], arm, renderer)
        samples += of_episode if streams.loss[i].any() else []
    return samples


def _estimates(
    episodes: Sequence[Episode],
    amounts: Sequence[Sequence[Array] | None],
    arm: Arm,
    renderer: Renderer,
    critic: Critic,
    level: Literal["turn", "token"],
) -> list[Estimates]:
    """The critic's estimates of each episode, under its training context."""
    zeros = Streams.of(episodes, [np.zeros(len(e.tokens)) for e in episodes])
    samples = [to_samples(e, zeros.of_episode(i), arm, renderer, gated=False) for i, e in enumerate(episodes)]
    by_episode = [[None if a is None else a[i] for a in amounts] for i in range(len(episodes))]
    return estimate(episodes, by_episode, samples, critic, level)


def _token_advantages(
    episodes: Sequence[Episode],
    amounts: Sequence[Sequence[Array] | None],
    groups: NDArray[np.int64],
    algorithm: Algorithm,
    level: AdvantageLevel,
    floor: float,
    apart: Sequence[bool],
) -> tuple[list[list[Array]], float | None]:
    """Advantages of rewards, then of each constraint's costs (empty without a price), and the share of floored groups.

    Those of an episode are an array [tokens], zero except on sampled tokens. Costs are divided by the rewards' number,
    or, where `apart`, by their own.
    """
    by_turn = [None if a is None else [np.asarray(each, np.float64) for each in a] for a in amounts]
    rewards = by_turn[0] or []
    if level == "episode":
        comparison = Comparison.of(algorithm, _sums(rewards), groups, floor=floor)
        whole = [
            None
            if a is None
            else (Comparison.of(algorithm, _sums(a), groups, floor=floor) if own else comparison).advantages(_sums(a))
            for a, own in zip(by_turn, apart, strict=True)
        ]
        spread = [
            [] if of is None else [np.where(e.loss_mask, a, 0.0) for e, a in zip(episodes, of, strict=True)]
            for of in whole
        ]
        return spread, comparison.divisor.floored
    turns = TurnLevel.of(algorithm, rewards, groups, floor=floor)
    heads = [
        None if a is None else (TurnLevel.of(algorithm, a, groups, floor=floor) if own else turns).advantages(a)
        for a, own in zip(by_turn, apart, strict=True)
    ]
    spread = [
        []
        if of is None
        else _on_tokens(episodes, [t[e.turn_index[e.loss_mask]] for e, t in zip(episodes, of, strict=True)])
        for of in heads
    ]
    return spread, turns.comparison.divisor.floored


def _sums(amounts: Sequence[Array]) -> Array:
    return np.array([each.sum() for each in amounts], np.float64)


def _on_tokens(episodes: Sequence[Episode], on_loss_tokens: Sequence[Array]) -> list[Array]:
    """Arrays [loss tokens] as arrays [tokens], zero except on sampled tokens."""
    spread = [np.zeros(len(e.tokens)) for e in episodes]
    for episode, tokens, values in zip(episodes, spread, on_loss_tokens, strict=True):
        tokens[episode.loss_mask] = values
    return spread


def _check_range(advantages: Sequence[Array], algorithm: Algorithm) -> None:
    """Refuse advantages that the learner's numbers cannot hold: they would be infinite, and the update skipped."""
    largest = max((float(np.abs(a).max(initial=0.0)) for a in advantages), default=0.0)
    if not largest < float(np.finfo(np.float32).max):
        raise CreditError(
            f"{algorithm} gives advantages beyond the range of 32-bit numbers (the largest is {largest:g}): scale the "
            "arm's reward, or the weight of its constraints, down"
        )


def _loss_mean(episode: Episode, values: Array) -> float:
    """Mean over the loss tokens. It is exact if all are equal, whereas a sum of equal numbers would be rounded."""
    inside = values[episode.loss_mask]
    return float(inside[0] + (inside - inside[0]).mean()) if len(inside) else 0.0


def _seen_by(intervention: Intervention, episode: Episode) -> Episode:
    return episode if intervention.reads_truth else episode.redacted()


def _add_credits(
    arm: Arm,
    episodes: Sequence[Episode],
    groups: NDArray[np.int64],
    returns: Array,
    advantages: Array,
    streams: Streams,
    parts: PartsOfCredit,
) -> None:
    """Add the credit of every intervention that has any, in order, and note what each added."""
    for place, intervention in enumerate(arm.interventions):
        if type(intervention).credit is not Intervention.credit:
            before = streams.signal()
            _add_credit(intervention, episodes, groups, returns, advantages, streams)
            parts.add(place, before, streams.signal())


def _add_credit(
    intervention: Intervention,
    episodes: Sequence[Episode],
    groups: NDArray[np.int64],
    returns: Array,
    advantages: Array,
    streams: Streams,
) -> None:
    """Call the credit hook of one intervention, group by group, and add the result to `streams` in place."""
    who = type(intervention).__name__
    for number in np.unique(groups):
        members = np.flatnonzero(groups == number)
        shown = tuple(_seen_by(intervention, episodes[i]) for i in members)
        group = Group(shown, returns[members], advantages[members])
        credit = call(InterventionError, intervention, "credit", group)
        if credit is None:
            continue
        if not isinstance(credit, Credit):
            raise InterventionError(f"{who}.credit() returned {credit!r:.80}; return Credit, or None")
        for kind in ("advantage", "weight", "imitation"):
            if fault := miscounted(getattr(credit, kind), len(members)):
                raise InterventionError(f"{who}.credit(), credit {credit.name!r}: {kind} {fault}")
        for position, i in enumerate(members):
            stream = partial(token_stream, who, credit, position=position, episode=episodes[i])
            if len(credit.advantage):
                streams.advantage[i] = streams.advantage[i] + stream("advantage")
            if len(credit.weight):
                streams.weight[i] = streams.weight[i] * stream("weight")
            if len(credit.imitation):
                present, added = streams.imitation[i], stream("imitation")
                streams.imitation[i] = added if present is None else present + added
