"""The stages of an update that need more than one call. `launch.train` has their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode, by_group
from envs.limits import NoAnswerError
from launch.run.evaluation.monitors import PendingReadings
from launch.run.ledger import RunError
from launch.run.timing import slow
from launch.run.trainer import Trainer
from rewards.base import exchanged, scored
from shaping.audits.conduct.seats import seat_columns
from shaping.audits.row import Row
from shaping.audits.training.update import audit_update
from shaping.learning.credit.credit import Credited
from shaping.learning.credit.credit_by_seat import credit_seats
from shaping.learning.credit.critic import Critic
from shaping.learning.credit.screening import screens
from shaping.learning.update_report import update_report
from shaping.readings import readings
from shaping.sampling.watchdog import watched

Rewards = list[NDArray[np.float64]]
"""Per episode one number per turn [turns]."""
Paid = TypeVar("Paid")


def play(trainer: Trainer, update: int) -> tuple[list[Episode], dict[str, Any]]:
    """The episodes that update number `update` learns from, and the row's counts of all that ended."""
    run, version = trainer.run, trainer.learner.version
    played, late = trainer.scheduler.collect(version, run.train.updates - update)
    usable, counts = trainer.ledger.settle(update, played, late)
    row: dict[str, Any] = {**counts}
    if run.rollout.max_staleness:
        row["staleness"] = float(np.mean([version - e.version for e in usable]))
    return usable, row


def score(trainer: Trainer, episodes: Sequence[Episode]) -> Rewards:
    """What the arm's reward pays. It sees redacted episodes, a whole group at a time, and then all groups."""
    places = list(by_group(episodes).values())
    groups = [[episodes[i] for i in members] for members in places]
    paid: Sequence[Rewards] = [_scored(trainer, members) for members in groups]
    name = type(trainer.reward).__name__
    paid = _in_time(trainer, f"reward {name}, all groups", lambda: exchanged(trainer.reward, groups, paid))
    rewards: Rewards = [np.zeros(0)] * len(episodes)
    for members, own in zip(places, paid, strict=True):
        for i, amounts in zip(members, own, strict=True):
            rewards[i] = amounts
    return rewards


def _scored(trainer: Trainer, members: Sequence[Episode]) -> Rewards:
    """What the reward pays in one group, within its time limit."""
    first = members[0]
    what = f"reward {type(trainer.reward).__name__}, group {first.group} (world {first.world!r}, seed {first.seed})"
    return _in_time(trainer, what, lambda: scored(trainer.reward, members))


def _in_time(trainer: Trainer, what: str, asked: Callable[[], Paid]) -> Paid:
    limit = trainer.run.train.reward_timeout
    try:
        return watched(what, limit, asked, slow(what))
    except NoAnswerError:
        raise RunError(
            f"{what}: no answer within {limit:g} s (train.reward_timeout): does it hang? Raise the limit if it is only "
            "slow, and run again to resume from the last saved state"
        ) from None


def follow(
    trainer: Trainer,
    update: int,
    pending: PendingReadings,
    episodes: list[Episode],
    rewards: Rewards,
    counts: dict[str, Any],
) -> tuple[list[Episode], Rewards]:
    """What alarms of monitors make of the episodes to learn from, and of their rewards (`eval.alarms.then`).

    It waits for the monitors only if an alarm drops episodes or substitutes rewards. Groups that are left with one
    episode have no baseline and are dropped with it. Raises `RunError` if no episode is left.
    """
    monitors = trainer.monitors
    if monitors.policy is None or not (monitors.decides("drop") or monitors.decides("substitute")):
        return episodes, rewards
    pending.join()
    rewards, instead = list(rewards), monitors.policy.config.substitute
    for index, turns in monitors.policy.flagged_turns(pending.reads, "substitute").items():
        rewards[index] = rewards[index].copy()
        rewards[index][sorted(turns)] = instead
    dropped = set(monitors.policy.flagged_turns(pending.reads, "drop"))
    left = Counter(e.group for index, e in enumerate(episodes) if index not in dropped)
    kept = [index for index, e in enumerate(episodes) if index not in dropped and left[e.group] > 1]
    trainer.ledger.screen(counts, len(episodes) - len(kept))
    if not kept:
        raise RunError(
            f"every group of update {update} has at most one episode without an alarm, so that nothing is left to "
            "learn from (eval.alarms.then: drop); raise false_positive_budget, or choose log or substitute"
        )
    return [episodes[index] for index in kept], [rewards[index] for index in kept]


def credit(trainer: Trainer, episodes: Sequence[Episode], rewards: Rewards, counts: dict[str, Any]) -> Credited:
    """Per-token streams: advantages of rewards less weighted costs, plus the interventions' credit.

    Episodes that constraints screen out are moved from `trained` to `screened`, in the ledger and in `counts`.
    """
    config = trainer.run.learner
    credited = credit_seats(
        episodes,
        rewards,
        trainer.arm,
        trainer.renderer,
        algorithm=config.algorithm,
        level=config.advantage_level,
        critic=Critic(trainer.learner.values, config.critic.gamma, config.critic.gae_lambda),
        kl_context=config.kl_context if config.kl > 0 else "training",
        version=trainer.learner.version,
        spread_floor=config.spread_floor,
        overlong=config.overlong,
    )
    if any(screens(constraint) for constraint in trainer.arm.constraints):
        left_out = 0 if credited.kept is None else int((~credited.kept).sum())
        trainer.ledger.screen(counts, left_out)
    return credited


def adapt(
    trainer: Trainer, update: int, episodes: Sequence[Episode], credited: Credited, learned: dict[str, float]
) -> dict[str, float]:
    """Let the interventions adapt to the update. Returns what they came to know of its episodes, before that."""
    told = readings(trainer.arm.interventions, episodes, trainer.arm.concerns)
    trainer.arm.after_update(update_report(update, episodes, credited, learned, trainer.learner.activations))
    return told


def audit(episodes: Sequence[Episode], credited: Credited, told: dict[str, float]) -> Row:
    """What the update selected for, and what the interventions came to know of its episodes (`told`)."""
    # order and ties are measured on the world's reward, even if the arm trains on another
    paid = np.array([e.proxy_return for e in episodes])
    row = audit_update(
        episodes,
        paid,
        credited.advantages,
        credited.credit,
        credited.groups,
        rewarded=credited.returns,
        floored=credited.floored,
        uninformative=credited.uninformative,
        parts=credited.parts,
    )
    row.add("readings()", told)
    row.add("the seats", seat_columns(episodes))
    return row
