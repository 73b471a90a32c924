"""PPO's advantages: the critic's values, generalised advantages of rewards and costs, and the critic's targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.learning.credit.advantages import EPSILON, Deviations, Divisor, exponent, gae, scaled
from shaping.learning.samples.sample import Sample

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
            # Without a discount, a value that stands for itself after a cut grows from update to update.
            terminated=not (episode.status.is_cut_off and critic.gamma < 1),
        )
        advantages[:, head], targets[:, head] = advantage[step_of], target[step_of]
    return Estimates(values, targets, advantages, starts)


def divided(
    estimates: Sequence[Estimates], returns: Array, floor: float, own: Mapping[int, Array] | None = None
) -> tuple[list[list[Array]], float | None]:
    """The advantages of every head, centred over all loss tokens and divided by the deviation of the reward's head.

    That one number divides rewards and costs alike: costs stay in units of the rewards. It is at least `floor` times
    the largest |return| of the batch, or 1 if all `returns` [episodes] are zero. Advantages of a head become zero if
    they do not vary, measured by the size of the value targets that they are differences of. The heads of `own` are
    divided by their own deviation instead, with the floor by their costs [episodes].

    Returns: (per head an array [loss tokens] per episode, 1.0 if the floor divided else 0.0).
    """
    if not sum(len(e.advantages) for e in estimates):
        return [[e.advantages[:, 0] for e in estimates]], None
    ends = np.cumsum([len(e.advantages) for e in estimates])[:-1]
    advantages = np.concatenate([e.advantages for e in estimates])
    targets = np.concatenate([e.targets for e in estimates])
    found = [_centred(advantages[:, head], targets[:, head]) for head in range(advantages.shape[1])]
    divisor = Divisor.of_batch(found[0], returns, floor)
    divisors = {head: Divisor.of_batch(found[head], costs, floor) for head, costs in (own or {}).items()}
    return [
        np.split(divisors.get(head, divisor).divide(of_head), ends) for head, of_head in enumerate(found)
    ], divisor.floored


def _centred(advantages: Array, targets: Array) -> Deviations:
    """The advantages [loss tokens] of one head less their mean."""
    own, size = scaled(advantages), exponent(advantages)
    smallest = EPSILON * np.ldexp(1.0, exponent(targets) - size)
    values = own - own.mean() if own.std() > smallest else np.zeros_like(own)
    return Deviations(values, np.full(len(own), size))
