"""Extra groups in place of those that teach nothing: `train.refill` (dynamic sampling; DAPO, 2503.14476)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from envs.episode import Episode, by_group
from launch.run.episodes import GroupRequest
from launch.run.ledger import sound
from launch.run.stages import Rewards, score
from launch.run.trainer import Trainer
from shaping.learning.credit.costs import costs_of
from shaping.learning.credit.screening import screened
from shaping.learning.credit.variance import uninformative


def refill(
    trainer: Trainer, update: int, episodes: list[Episode], rewards: Rewards, counts: dict[str, Any]
) -> tuple[list[Episode], Rewards]:
    """The episodes to learn from, and their rewards, with at most `train.refill` groups replaced.

    A group in which neither rewards nor priced costs vary is replaced by an extra group of the same world that has a
    seed of its own, as soon as one is played in which something varies. Of the two, the other one is counted as
    `uninformative`, in the ledger and in `counts`. Which groups are asked for depends on played episodes alone, so that
    a resumed run asks for the same.
    """
    left = trainer.run.train.refill
    if not left:
        return episodes, rewards
    groups = {
        number: ([episodes[i] for i in members], [rewards[i] for i in members])
        for number, members in by_group(episodes).items()
    }
    asked: Counter[int] = Counter()
    replaced = 0
    while left and (silent := [g for g, (of, paid) in groups.items() if _silent(trainer, of, paid)]):
        slots = silent[:left]
        left -= len(slots)
        asked.update(slots)
        requests = [_request(trainer, update, slot, asked[slot]) for slot in slots]
        for slot, played in zip(slots, trainer.scheduler.extra(requests), strict=True):
            extra = sound(replace(e, group=slot) for e in played.episodes)
            paid = score(trainer, extra)
            dropped = extra
            if len(extra) > 1 and not _silent(trainer, extra, paid):
                dropped, groups[slot] = groups[slot][0], (extra, paid)
                replaced += 1
            trainer.ledger.swap(counts, played.episodes, taken=len(extra), dropped=len(dropped))
    counts["refilled"] = replaced / len(groups)
    return [e for of, _ in groups.values() for e in of], [r for _, paid in groups.values() for r in paid]


def _silent(trainer: Trainer, episodes: Sequence[Episode], rewards: Rewards) -> bool:
    """Do neither rewards nor priced costs vary in this group, among the episodes that are not screened out?"""
    constraints = trainer.arm.constraints
    charged = [costs_of(constraint, episodes) for constraint in constraints if constraint.pricing.rate]
    kept = screened(constraints, episodes, rewards)
    inside = range(len(episodes)) if kept is None else np.flatnonzero(kept).tolist()
    amounts = [None if costs is None else [costs[i] for i in inside] for costs in (rewards, *charged)]
    numbers = np.array([episodes[i].group for i in inside], np.int64)
    return not inside or len(uninformative(amounts, numbers, trainer.run.learner.advantage_level)) > 0


def _request(trainer: Trainer, update: int, slot: int, attempt: int) -> GroupRequest:
    """The `attempt`-th extra group for a slot: in the world of that slot, and with a number no other group has."""
    worlds, groups = len(trainer.run.train.worlds), trainer.run.train.groups
    return GroupRequest(update, slot + attempt * worlds * math.ceil(groups / worlds))
