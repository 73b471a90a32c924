"""Advantages as pure functions of returns, rewards and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shaping.learning.config import SPREAD_FLOOR, Algorithm

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


class Deviations(NamedTuple):
    """Differences from a baseline, as `values * 2**sizes`: numbers of any size neither overflow nor vanish."""

    values: Array
    """Shape [entries]."""
    sizes: Groups
    """Shape [entries]."""


def deviations(values: Array, compared: Groups, algorithm: Algorithm) -> Deviations:
    """Each value minus the mean of those with its number in `compared`; zero where these do not vary.

    `rloo` leaves the value itself out of the mean. In a group of n that is the plain difference times n / (n - 1).
    """
    found, sizes = np.zeros(len(values), np.float64), np.zeros(len(values), np.int64)
    if not len(values):
        return Deviations(found, sizes)
    order = np.argsort(compared, kind="stable")
    own, (starts, counts) = np.asarray(values, np.float64)[order], _runs(compared[order])
    size = np.frexp(np.maximum.reduceat(np.abs(own), starts))[1].astype(np.int64)
    own = np.ldexp(own, -np.repeat(size, counts))
    own -= np.repeat(np.add.reduceat(own, starts) / counts, counts)
    varying = np.sqrt(np.add.reduceat(own * own, starts) / counts) > EPSILON
    others = counts / np.maximum(counts - 1, 1) if algorithm == "rloo" else np.ones(len(counts))
    found[order] = own * np.repeat(np.where(varying, others, 0.0), counts)
    sizes[order] = np.repeat(np.where(varying, size, 0), counts)
    return Deviations(found, sizes)


def _runs(numbers: Groups) -> tuple[Groups, Groups]:
    """(starts, lengths) of the runs of equal numbers in a sorted array that is not empty."""
    starts = np.flatnonzero(np.diff(numbers, prepend=numbers[0] - 1))
    return starts, np.diff(starts, append=len(numbers))


@dataclass(frozen=True, slots=True)
class Divisor:
    """The number that divides the advantages of rewards and of costs alike, as `values * 2**sizes`, [entries]."""

    values: Array
    sizes: Groups
    floored: float | None
    """Share of the groups where it is the floor; None for algorithms that divide by nothing."""

    @classmethod
    def one(cls, entries: int) -> Divisor:
        """Leave advantages in the rewards' own units."""
        return cls(np.ones(entries), np.zeros(entries, np.int64), None)

    @classmethod
    def of(cls, found: Deviations, returns: Array, groups: Groups, floor: float) -> Divisor:
        """One number per group, from the deviations of its rewards [entries] and its returns [entries]."""
        values, sizes = np.ones(len(returns)), np.zeros(len(returns), np.int64)
        floored = []
        for number in np.unique(groups):
            inside = groups == number
            own = Deviations(found.values[inside], found.sizes[inside])
            values[inside], sizes[inside], is_floor = _divisor(own, returns[inside], floor)
            floored.append(is_floor)
        return cls(values, sizes, float(np.mean(floored)) if floored else None)

    @classmethod
    def of_batch(cls, found: Deviations, returns: Array, floor: float) -> Divisor:
        """One number for all entries, from the deviations of rewards [entries] and the returns [episodes]."""
        value, size, floored = _divisor(found, returns, floor)
        return cls(np.full_like(found.values, value), np.full_like(found.sizes, size), float(floored))

    def divide(self, found: Deviations) -> Array:
        """Advantages, shape [entries]."""
        with np.errstate(over="ignore"):  # beyond the range of floats: refused with all that the learner cannot hold
            return np.ldexp(found.values / self.values, found.sizes - self.sizes)


def _divisor(found: Deviations, returns: Array, floor: float) -> tuple[float, int, bool]:
    """(number, its power of two, is it the floor?): the standard deviation, at least `floor` * the largest |return|.

    Where all returns are zero the floor is 1, one unit of reward, so that costs alone can be learned from.
    """
    of_returns, largest = exponent(returns), float(np.abs(scaled(returns)).max(initial=0.0))
    size = int(found.sizes[found.values != 0].max(initial=of_returns))  # zeros have none: a tiny floor would be lost
    spread = float(np.ldexp(found.values, found.sizes - size).std())
    least = float(np.ldexp(floor * largest, of_returns - size) if largest else np.ldexp(1.0, -size))
    return max(spread, least), size, spread < least


@dataclass(frozen=True, slots=True)
class Comparison:
    """The entries (episodes, or turns) of an update, each with those that it is compared with.

    The rewards make it, and it gives advantages of rewards and of costs. Costs get baselines of their own, but are
    divided by the rewards' number: what is trained is return - weight * cost, up to one positive factor per group. By
    their own deviation their size would cancel, and by that of return - weight * cost the weight would.

    - `grpo`: divided by the standard deviation (the population's) of the group's returns (arXiv:2402.03300).
    - `dr_grpo`: divided by nothing (arXiv:2503.20783).
    - `rloo`: the baseline leaves the entry itself out, so that the gradient is unbiased; divided by nothing
      (arXiv:2402.14740).
    - `reinforce_pp`: divided by the standard deviation of all centred returns of the batch, in which every entry counts
      once, so that hard and easy groups keep their relative weight (REINFORCE++-baseline, arXiv:2501.03262).

    The floor keeps groups whose returns hardly differ from being scaled up to differences like all others'.
    """

    algorithm: Algorithm
    compared: Groups
    """Entries with the same number are compared, shape [entries]."""
    divisor: Divisor

    @classmethod
    def of(
        cls,
        algorithm: Algorithm,
        returns: Array,
        groups: Groups,
        compared: Groups | None = None,
        *,
        floor: float = SPREAD_FLOOR,
    ) -> Comparison:
        """Compare by `returns` [entries] inside `groups` [entries], or inside the finer `compared` [entries]."""
        compared = groups if compared is None else compared
        if algorithm not in ("grpo", "reinforce_pp"):
            return cls(algorithm, compared, Divisor.one(len(returns)))
        scope = np.zeros_like(groups) if algorithm == "reinforce_pp" else groups
        return cls(algorithm, compared, Divisor.of(deviations(returns, compared, algorithm), returns, scope, floor))

    def advantages(self, amounts: Array) -> Array:
        """Advantages of returns or of costs, shape [entries]."""
        return self.divisor.divide(deviations(amounts, self.compared, self.algorithm))


def estimate(algorithm: Algorithm, returns: Array, groups: Groups, *, floor: float = SPREAD_FLOOR) -> Array:
    """Advantages of whole episodes, shape [episodes], from their returns [episodes] and group numbers [episodes]."""
    return Comparison.of(algorithm, returns, groups, floor=floor).advantages(returns)


def return_to_go(rewards: Array) -> Array:
    """Undiscounted sum of each reward and all later ones, shape [turns]."""
    return np.cumsum(rewards[::-1])[::-1]


@dataclass(frozen=True, slots=True)
class TurnLevel:
    """One advantage per turn: its return-to-go compared with the group's at the same turn index.

    Rewards before a turn are no consequence of it and drop out, which sharpens credit over long horizons.

    Episodes of a group may differ in length. A turn is compared among the episodes that reached it: an episode that
    has ended has no return-to-go there (rather than one of zero), because it takes no action. A turn that only one
    episode reached has no baseline and gets advantage zero. Earlier turns get the credit for reaching it, because
    their return-to-go includes it.

    `grpo` divides by the standard deviation over all turns of the group, not turn by turn, so that advantages stay
    small at turns with little at stake, and `reinforce_pp` by the one over all turns of the batch. If only the last
    turn is paid and all episodes are equally long, every turn gets the advantage of its whole episode.
    """

    comparison: Comparison

    @classmethod
    def of(
        cls, algorithm: Algorithm, rewards: Sequence[Array], groups: Groups, *, floor: float = SPREAD_FLOOR
    ) -> TurnLevel:
        """Compare by rewards, an array [turns] per episode, inside groups [episodes]."""
        returns, compared, group = turns_compared(rewards, groups)
        return cls(Comparison.of(algorithm, returns, group, compared, floor=floor))

    def advantages(self, amounts: Sequence[Array]) -> list[Array]:
        """Advantages of rewards or of costs: an array [turns] per episode from one."""
        if not len(amounts):
            return []
        ends = np.cumsum([len(a) for a in amounts])
        return np.split(self.comparison.advantages(_flat(amounts)), ends[:-1])


def turns_compared(amounts: Sequence[Array], groups: Groups) -> tuple[Array, Groups, Groups]:
    """(return-to-go, number of the turns that it is compared with, group) of all turns of all episodes, [turns]."""
    lengths = [len(a) for a in amounts]
    group = np.repeat(groups, lengths)
    turn = np.concatenate([np.arange(n) for n in lengths] or [np.zeros(0, np.int64)])
    _, compared = np.unique(np.stack([group, turn]), axis=1, return_inverse=True)
    return _flat(amounts), compared.ravel(), group


def _flat(amounts: Sequence[Array]) -> Array:
    """The returns-to-go of all turns of all episodes."""
    return np.concatenate([return_to_go(a) for a in amounts] or [np.zeros(0)])


def gae(rewards: Array, values: Array, *, gamma: float, gae_lambda: float, terminated: bool) -> tuple[Array, Array]:
    """Generalised advantage estimation over the steps of one episode (Schulman et al., arXiv:1506.02438).

    A step is a turn or a token.

    Args:
        rewards: shape [steps].
        values: shape [steps + 1]: the value before each step, and after the last.
        gamma: discount per step.
        gae_lambda: lambda of the estimator.
        terminated: True if no reward follows: the last value is then ignored. An episode that was *cut off* from
            outside (turn limit, length limit) could have continued: its last value stands for the missing rewards.
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
    """reward - weight * cost. Both must have been divided by one number; a weight of zero leaves every bit as it is."""
    return reward - weight * cost if weight else reward
