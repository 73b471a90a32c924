"""PPO's credit: values of the critic, generalised advantages of rewards and costs, and what the critic is to learn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode, RolloutStatus
from shaping.learning.advantages import EPSILON, gae
from shaping.learning.sample import Sample

Array = NDArray[np.float64]
Values = Callable[[Sequence[Sample]], list[tuple[Array, Array]]]
"""`Learner.values`: per sample the values before each loss token [loss tokens, heads] and after the last [heads]."""


@dataclass(frozen=True, slots=True)
class Critic:
    """Where values come from, and the discount and lambda of their use. `gamma` and `gae_lambda` are per step."""

    values: Values
    gamma: float = 1.0
    gae_lambda: float = 0.95


@dataclass(frozen=True, slots=True)
class Estimates:
    """One episode as the critic sees it. Arrays over its n loss tokens, one column per head.

    Head 0 is the reward's, head 1 + k that of the arm's constraint k. `advantages` are not yet normalised.
    """

    old: Array
    targets: Array
    advantages: Array
    starts: NDArray[np.bool_]
    """[n] True where a step starts: there alone the critic has something to learn."""

    def over(self, loss_mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """Old values and targets [tokens, heads], and where they hold [tokens], over the whole episode."""
        shape = len(loss_mask), self.old.shape[1]
        old, targets = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
        mask = np.zeros(len(loss_mask), bool)
        old[loss_mask], targets[loss_mask], mask[loss_mask] = self.old, self.targets, self.starts
        return old, targets, mask


def estimate(
    episodes: Sequence[Episode],
    amounts: Sequence[Sequence[Array | None]],
    samples: Sequence[Sequence[Sample]],
    critic: Critic,
    level: Literal["turn", "token"],
) -> list[Estimates]:
    """Per episode the critic's estimates.

    Args:
        amounts: per episode, per head an array [turns] of rewards or costs; None where a constraint has no price.
        samples: per episode the samples it is learned from, whose loss tokens are the episode's, in order.
        level: a step is a turn, valued at its first sampled token, or a single sampled token. The last token of a
            turn receives the turn's reward.
    """
    flat = critic.values([sample for own in samples for sample in own])
    found: list[Estimates] = []
    at = 0
    for episode, own, paid in zip(episodes, samples, amounts, strict=True):
        parts = flat[at : at + len(own)]
        at += len(own)
        found.append(_estimate(episode, paid, np.concatenate([v for v, _ in parts]), parts[-1][1], critic, level))
    return found


def _estimate(
    episode: Episode, amounts: Sequence[Array | None], values: Array, after: Array, critic: Critic, level: str
) -> Estimates:
    turn = episode.turn_index[episode.loss_mask]
    if level == "turn":
        starts = np.diff(turn, prepend=-1) != 0
        paid_at = turn[starts]  # the turn whose reward each step receives; turns without tokens do not exist
    else:
        starts = np.ones(len(turn), bool)
        paid_at = np.where(np.diff(turn, append=-1) != 0, turn, -1)
    step_of = np.cumsum(starts) - 1
    targets, advantages = np.zeros_like(values), np.zeros_like(values)
    for head, paid in enumerate(amounts):
        if paid is None:
            continue
        rewards = np.where(paid_at >= 0, np.asarray(paid, np.float64)[paid_at], 0.0)
        advantage, target = gae(
            rewards,
            np.append(values[starts, head], after[head]),
            gamma=critic.gamma,
            gae_lambda=critic.gae_lambda,
            terminated=episode.status is RolloutStatus.COMPLETED,
        )
        advantages[:, head], targets[:, head] = advantage[step_of], target[step_of]
    return Estimates(values, targets, advantages, starts)


def normalised(advantages: Sequence[Array]) -> list[Array]:
    """Advantages [loss tokens] of many episodes, centred and scaled to unit deviation over all their loss tokens.

    Zero where they do not vary. One head at a time: one scale for rewards and costs would cancel the costs' weight.
    """
    flat = np.concatenate(advantages) if len(advantages) else np.zeros(0)
    deviation = flat.std() if len(flat) else 0.0
    if deviation <= EPSILON:
        return [np.zeros_like(a) for a in advantages]
    return [(a - flat.mean()) / deviation for a in advantages]
