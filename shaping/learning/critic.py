"""PPO's advantages: the critic's values, generalised advantages of rewards and costs, and the critic's targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode, RolloutStatus
from shaping.learning.advantages import EPSILON, exponent, gae, scaled
from shaping.learning.sample import Sample

Array = NDArray[np.float64]
Values = Callable[[Sequence[Sample]], list[tuple[Array, Array]]]
"""`Learner.values`: per sample (values before each loss token [loss tokens, heads], values after the last [heads])."""


@dataclass(frozen=True, slots=True)
class Critic:
    """A critic, and the settings of advantage estimation."""

    values: Values
    """Computes the values of samples."""
    gamma: float = 1.0
    """Discount per step."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation, per step."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """The critic's estimates of one episode with n loss tokens.

    Head 0 belongs to the reward, head 1 + k to the arm's constraint k.
    """

    old: Array
    """Values before the update, shape [n, heads]."""
    targets: Array
    """Value targets, shape [n, heads]."""
    advantages: Array
    """Advantages before normalisation, shape [n, heads]."""
    starts: NDArray[np.bool_]
    """True where a step starts, shape [n]; the critic learns only there."""

    def over(self, loss_mask: NDArray[np.bool_]) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
        """(old values [tokens, heads], targets [tokens, heads], starts [tokens]) over the whole episode."""
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
    """The critic's estimates of every episode.

    Args:
        episodes: the episodes.
        amounts: per episode and head an array [turns] of rewards or costs; None for a constraint without a price.
        samples: per episode its samples, whose loss tokens are the episode's, in order.
        critic: gives the values.
        level: a step is a turn, valued at its first sampled token, or a single sampled token. The last token of a
            turn receives the turn's reward.
    """
    values = iter(critic.values([sample for of_episode in samples for sample in of_episode]))
    estimates: list[Estimates] = []
    for episode, of_episode, by_head in zip(episodes, samples, amounts, strict=True):
        parts = [next(values) for _ in of_episode]
        before = np.concatenate([v for v, _ in parts])
        estimates.append(_estimate(episode, by_head, before, parts[-1][1], critic, level))
    return estimates


def _estimate(
    episode: Episode, amounts: Sequence[Array | None], values: Array, after: Array, critic: Critic, level: str
) -> Estimates:
    """Estimates from values before each loss token [n, heads] and after the last one [heads]."""
    turn = episode.turn_index[episode.loss_mask]
    if level == "turn":
        starts = np.diff(turn, prepend=-1) != 0
        paid_at = turn[starts]  # the turn whose reward each step receives; every turn has tokens
    else:
        starts = np.ones(len(turn), bool)
        paid_at = np.where(np.diff(turn, append=-1) != 0, turn, -1)
    step_of = np.cumsum(starts) - 1
    targets, advantages = np.zeros_like(values), np.zeros_like(values)
    for head, by_turn in enumerate(amounts):
        if by_turn is None:
            continue
        rewards = np.where(paid_at >= 0, np.asarray(by_turn, np.float64)[paid_at], 0.0)
        advantage, target = gae(
            rewards,
            np.append(values[starts, head], after[head]),
            gamma=critic.gamma,
            gae_lambda=critic.gae_lambda,
            terminated=episode.status is RolloutStatus.COMPLETED,
        )
        advantages[:, head], targets[:, head] = advantage[step_of], target[step_of]
    return Estimates(values, targets, advantages, starts)


def normalised(advantages: Sequence[Array], targets: Sequence[Array]) -> list[Array]:
    """Advantages [loss tokens] of many episodes, centred and scaled to unit deviation over all their loss tokens.

    They become zero if they do not vary, measured by the size of the value `targets` [loss tokens] that they are
    differences of. Call it once per head: one scale for rewards and costs would cancel the weight of the costs.
    """
    if not sum(map(len, advantages)):
        return list(advantages)
    flat = np.concatenate(advantages)
    own, smallest = scaled(flat), EPSILON * np.ldexp(1.0, exponent(np.concatenate(targets)) - exponent(flat))
    if not own.std() > smallest:
        return [np.zeros_like(a) for a in advantages]
    parts = np.split(own, np.cumsum([len(a) for a in advantages])[:-1])
    return [(a - own.mean()) / own.std() for a in parts]
