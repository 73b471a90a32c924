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
"""Smallest standard deviation of returns that counts, as a share of their size: below it lies float32 rounding."""


def exponent(values: Array) -> int:
    """The power of two at or above the largest of |values|. Scaling by it is exact, so it changes no digit."""
    return int(np.frexp(np.abs(values).max(initial=0.0))[1])


def scaled(values: Array) -> Array:
    """`values` divided by the power of two of their size: squares of them neither overflow nor vanish."""
    return np.ldexp(np.asarray(values, np.float64), -exponent(values))


def varies(values: Array) -> bool:
    """Do the returns of a group differ, by more than rounding? If not, the group has zero advantages."""
    return len(values) > 0 and bool(scaled(values).std() > EPSILON)


def group_normalised(returns: Array, groups: Groups, *, divide_by_std: bool = True) -> Array:
    """(return - group mean) / group std, shape [episodes]; zero for groups without variance.

    With `divide_by_std` this is GRPO (Shao et al., arXiv:2402.03300), without it Dr. GRPO (Liu et al.,
    arXiv:2503.20783). The standard deviation is the population's.
    """
    advantages = np.zeros(len(returns), np.float64)
    for group in np.unique(groups):
        inside = groups == group
        if varies(returns[inside]):
            own = scaled(returns[inside])
            centred = own - own.mean()
            size = exponent(returns[inside])
            advantages[inside] = centred / centred.std() if divide_by_std else np.ldexp(centred, size)
    return advantages


def rloo(returns: Array, groups: Groups) -> Array:
    """Return minus the mean return of the *others* in the group, shape [episodes] (Ahmadian et al., arXiv:2402.14740).

    The baseline does not depend on its episode, so the gradient is unbiased. In a group of n the advantage equals the
    centred return times n / (n - 1). It is zero in a group without variance, and in a group of one.
    """
    _, member_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    size = counts[member_of]
    return group_normalised(returns, groups, divide_by_std=False) * size / np.maximum(size - 1, 1)


def reinforce_pp_baseline(returns: Array, groups: Groups) -> Array:
    """(return - group mean) / std of that difference over the whole batch (REINFORCE++-baseline, Hu, arXiv:2501.03262).

    The batch is all episodes of one call, shape [episodes]. Every episode counts once in the standard deviation, long
    or short. All groups have one scale, so that hard and easy groups keep their relative weight; GRPO does not keep it.
    """
    centred = group_normalised(returns, groups, divide_by_std=False)
    if not centred.any():  # no group has variance
        return centred
    return scaled(centred) / scaled(centred).std()


ESTIMATORS: dict[Algorithm, Callable[[Array, Groups], Array]] = {
    "grpo": group_normalised,
    "dr_grpo": partial(group_normalised, divide_by_std=False),
    "rloo": rloo,
    "reinforce_pp": reinforce_pp_baseline,
}
"""Advantages [episodes] from returns [episodes] and group numbers [episodes], by `LearnerConfig.algorithm`."""


def return_to_go(rewards: Array) -> Array:
    """Undiscounted sum of each reward and all later ones, shape [turns]."""
    return np.cumsum(rewards[::-1])[::-1]


def turn_level(rewards: Sequence[Array], groups: Groups, algorithm: Algorithm) -> list[Array]:
    """One advantage per turn: its return-to-go compared with the group's at the same turn index.

    Rewards before a turn are no consequence of it and drop out, which sharpens credit over long horizons.

    Episodes of a group may differ in length. A turn is compared among the episodes that reached it: an episode that
    has ended has no return-to-go there (rather than one of zero), because it takes no action. A turn that only one
    episode reached has no baseline and gets advantage zero. Earlier turns get the credit for reaching it, because
    their return-to-go includes it.

    `grpo` divides by the standard deviation over all turns of the group, not turn by turn, so that advantages stay
    small at turns with little at stake. `rloo` leaves the episode itself out of the baseline. `reinforce_pp` divides by
    the standard deviation over all turns of the batch. If only the last turn is paid and all episodes are equally
    long, every turn gets the advantage of its whole episode.

    Args:
        rewards: an array [turns] per episode.
        groups: group numbers [episodes].
        algorithm: baseline and scale.
    Returns: an array [turns] per episode.
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

    A step is a turn or a token.

    Args:
        rewards: shape [steps].
        values: shape [steps + 1]: the value before each step, and after the last.
        gamma: discount per step.
        gae_lambda: lambda of the estimator.
        terminated: True if the world ended: the last value is then ignored. A *truncated* episode (turn limit, length
            limit) could have continued: its last value stands for the missing rewards.
    Returns: (advantages, value targets), both [steps]; a target is advantage plus value.
    Raises: ValueError if the shapes do not match.
    """
    if values.shape != (len(rewards) + 1,):
        raise ValueError(
            f"values must have one entry before each of the {len(rewards)} steps and one after the last, shape "
            f"({len(rewards) + 1},), not {values.shape}"
        )
    advantages = np.zeros(len(rewards), np.float64)
    following, ahead = 0.0 if terminated else float(values[-1]), 0.0
    for step in reversed(range(len(rewards))):
        td_error = rewards[step] + gamma * following - values[step]
        advantages[step] = ahead = td_error + gamma * gae_lambda * ahead
        following = values[step]
    return advantages, advantages + values[:-1]


def zero_variance(returns: Array, groups: Groups) -> float | None:
    """Share of groups whose returns do not differ, so that they teach nothing; None without groups."""
    equal = [not varies(returns[groups == g]) for g in np.unique(groups)]
    return float(np.mean(equal)) if equal else None


def with_cost(reward: Array, cost: Array, weight: float) -> Array:
    """reward - weight * cost. Both must be normalised *apart*: one std over r - weight * c would cancel the weight."""
    return reward - weight * cost
