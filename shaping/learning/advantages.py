"""Advantages as pure functions of returns and rewards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from shaping.learning.config import Algorithm

Array = NDArray[np.float64]
Groups = NDArray[np.int64]

EPSILON = 1e-6
"""Below this standard deviation a group counts as without variance and teaches nothing."""


def group_normalised(returns: Array, groups: Groups, *, divide_by_std: bool = True) -> Array:
    """(return - group mean) / group std, shape [episodes]; zero for groups without variance.

    With `divide_by_std` GRPO (Shao et al., arXiv:2402.03300), without it Dr. GRPO (Liu et al., arXiv:2503.20783). The
    standard deviation is the population's.
    """
    advantages = np.zeros(len(returns), np.float64)
    for group in np.unique(groups):
        inside = groups == group
        centred = returns[inside] - returns[inside].mean()
        deviation = centred.std()
        if deviation > EPSILON:
            advantages[inside] = centred / deviation if divide_by_std else centred
    return advantages


def rloo(returns: Array, groups: Groups) -> Array:
    """Return minus the mean return of the *others* in the group, shape [episodes] (Ahmadian et al., arXiv:2402.14740).

    The baseline is independent of the episode it is for, so the gradient is unbiased. It is the centred return times
    n / (n - 1) in a group of n; zero in a group without variance and in a group of one, which has no others.
    """
    _, member_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    size = counts[member_of]
    return group_normalised(returns, groups, divide_by_std=False) * size / np.maximum(size - 1, 1)


def reinforce_pp_baseline(returns: Array, groups: Groups) -> Array:
    """(return - group mean) / std of that difference over the whole batch (REINFORCE++-baseline, Hu, arXiv:2501.03262).

    The batch is everything passed in one call, shape [episodes]; every episode counts once in the standard deviation,
    however many tokens it has. One scale for all: hard and easy groups keep their relative weight, as GRPO's do not.
    """
    centred = group_normalised(returns, groups, divide_by_std=False)
    deviation = centred.std() if len(centred) else 0.0
    return centred / deviation if deviation > EPSILON else np.zeros_like(centred)


ESTIMATORS: dict[Algorithm, Callable[[Array, Groups], Array]] = {
    "grpo": group_normalised,
    "dr_grpo": partial(group_normalised, divide_by_std=False),
    "rloo": rloo,
    "reinforce_pp": reinforce_pp_baseline,
}
"""What each `LearnerConfig.algorithm` makes of returns [episodes] and their groups [episodes]."""


def return_to_go(rewards: Array) -> Array:
    """Undiscounted sum of this and all later rewards, shape [turns]."""
    return np.cumsum(rewards[::-1])[::-1]


def turn_level(rewards: Sequence[Array], groups: Groups, algorithm: Algorithm) -> list[Array]:
    """One advantage per turn: return-to-go against the group's return-to-go at the same turn index.

    What was paid before a turn is no consequence of it and drops out, which is what makes credit sharper over long
    horizons. `rewards` holds an array [turns] per episode, `groups` [episodes]; the answer has the shape of `rewards`.

    Episodes of a group may differ in length. A turn is compared among the episodes that reached it: an episode that
    has ended takes no action there and has no return-to-go, not one of zero. A turn that only one episode reached has
    nothing to be compared with and gets advantage zero; that it was reached is credited at the earlier turns, whose
    return-to-go includes it.

    `grpo` divides by the standard deviation over all turns of the group, not turn by turn, so that turns at which
    little is at stake stay small. `rloo` leaves the episode itself out of the baseline, `reinforce_pp` divides by the
    standard deviation over all turns of the batch. Where only the last turn is paid and all episodes are equally long,
    every turn gets the advantage that the whole episode would get.
    """
    if not len(rewards):
        return []
    lengths = [len(r) for r in rewards]
    values = np.concatenate([return_to_go(r) for r in rewards])
    group = np.repeat(groups, lengths)
    turn = np.concatenate([np.arange(n) for n in lengths])
    _, compared = np.unique(np.stack([group, turn]), axis=1, return_inverse=True)
    if algorithm == "grpo":
        flat = group_normalised(group_normalised(values, compared.ravel(), divide_by_std=False), group)
    else:
        flat = ESTIMATORS[algorithm](values, compared.ravel())
    return np.split(flat, np.cumsum(lengths)[:-1])


def gae(rewards: Array, values: Array, *, gamma: float, gae_lambda: float, terminated: bool) -> tuple[Array, Array]:
    """Generalised advantage estimation over the steps of one episode (Schulman et al., arXiv:1506.02438).

    A step is a turn or a token. `rewards` has shape [steps]; `values` has shape [steps + 1]: the value before each
    step and after the last. Returns (advantages, value targets), both [steps]; a target is advantage plus value.

    `terminated`: the world ended, nothing can follow, and the last value is ignored. An episode that was *truncated*
    (turn limit, length limit) would have gone on: its last value stands for what was cut off.

    Raises ValueError if the shapes do not match.
    """
    if values.shape != (len(rewards) + 1,):
        raise ValueError(
            f"values must have one entry before each of the {len(rewards)} steps and one after the last, shape "
            f"({len(rewards) + 1},), not {values.shape}"
        )
    advantages = np.zeros(len(rewards), np.float64)
    following, ahead = 0.0 if terminated else float(values[-1]), 0.0
    for step in reversed(range(len(rewards))):
        surprise = rewards[step] + gamma * following - values[step]
        advantages[step] = ahead = surprise + gamma * gae_lambda * ahead
        following = values[step]
    return advantages, advantages + values[:-1]


def zero_variance(returns: Array, groups: Groups) -> float:
    """Share of groups whose returns do not differ."""
    kinds = np.unique(groups)
    flat = [returns[groups == g].std() <= EPSILON for g in kinds]
    return float(np.mean(flat)) if flat else 0.0


def with_cost(reward: Array, cost: Array, weight: float) -> Array:
    """reward - weight * cost, both already normalised *apart*: one std over r - weight * c would cancel the weight."""
    return reward - weight * cost
