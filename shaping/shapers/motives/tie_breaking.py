"""Bonuses that break ties inside a group and never invert the order of two returns."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from envs.core import draw
from shaping.hooks import Credit, Group

Array = NDArray[np.float64]


def tie_breaks(group: Group, scores: Array, most: float) -> NDArray[np.float32]:
    """A bonus in [0, most] per episode [n], in the order of `scores`, that inverts no pair of returns.

    With g the smallest gap between the advantages of two neighbouring returns, as 32-bit numbers, bonuses lie in [0,
    min(most, g / 2)]. So r_i < r_j gives A_i + b_i <= A_i + g / 2 <= A_j <= A_j + b_j, and 32-bit sums keep that order,
    since rounding is monotone. Where all scores are equal, and where a gap leaves no room, all bonuses are 0.
    """
    none = np.zeros(len(scores), np.float32)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        room, span = min(most, _gap(group) / 2), float(np.ptp(scores)) if len(scores) else 0.0
        if not (np.isfinite(scores).all() and np.isfinite(span) and span > 0 and room > 0):
            return none
        bonus = (scores - scores.min()) / span * room
        found = bonus.astype(np.float32)
    # rounding to 32 bits must not pass the room
    return np.where(found.astype(np.float64) > room, np.nextafter(found, none), found)


def _gap(group: Group) -> float:
    """The smallest difference between the advantages of two neighbouring returns; infinite if all returns are equal."""
    rounded = group.advantages.astype(np.float32).astype(np.float64)
    if not (np.isfinite(rounded).all() and np.isfinite(group.returns).all()):
        return 0.0
    levels = [rounded[group.returns == each] for each in np.unique(group.returns)]
    return min((float(above.min() - below.max()) for below, above in pairwise(levels)), default=np.inf)


def dealt(group: Group, scores: Array) -> Array:
    """The scores of the members in an order that depends on their tokens alone: what a placebo gets."""
    keys = [int(e.tokens.astype(np.int64).sum()) * 7919 + n for n, e in enumerate(group.episodes)]
    return scores[np.argsort([draw(key, "placebo", 0) for key in keys], kind="stable")]


def bonus_credit(name: str, group: Group, bonus: NDArray[np.float32]) -> Credit | None:
    """The same addition to the advantage on every token of an episode; None where nothing is added."""
    if not bonus.any():
        return None
    each = zip(group.episodes, bonus, strict=True)
    return Credit(name, advantage=tuple(np.full(len(episode.tokens), b, np.float32) for episode, b in each))
