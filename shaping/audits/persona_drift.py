"""How far has training moved a policy along directions that stand for personas or traits?

States of the same texts are projected on a direction before and after (Chen et al., arXiv:2507.21509). Everything
drifts in training, so the drift along a direction is compared with that along random ones: it means something where it
is larger than chance directions show.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Drift(NamedTuple):
    """The drift along one direction."""

    shift: float
    """Difference of the mean projections, in standard deviations of the projections before."""
    chance: float
    """95 % quantile of the absolute shift along random directions."""
    share: float
    """Squared cosine of the mean displacement and the direction: which part of all drift it is."""

    @property
    def beyond_chance(self) -> bool:
        return abs(self.shift) > self.chance


def drift_along(before: Array, after: Array, direction: Array, *, random: int = 199, seed: int = 0) -> Drift:
    """Drift of states before[n, d] to after[m, d] along direction[d].

    Random directions are normal draws with the states' own covariance before training, so that they are as likely as
    the states to point where the model varies. Raises `ValueError` for shapes that do not fit, fewer than two states
    before, values that are not finite, and a direction of length 0.
    """
    if before.ndim != 2 or after.ndim != 2 or before.shape[1] != after.shape[1] or not len(after):
        raise ValueError(f"expected states of shape [n, d] and [m, d], got {before.shape} and {after.shape}")
    if direction.shape != before.shape[1:] or len(before) < 2:
        raise ValueError(f"a direction of shape {direction.shape} for {len(before)} states of shape {before.shape[1:]}")
    if not all(np.isfinite(each).all() for each in (before, after, direction)):
        raise ValueError("states and directions must be finite: leave turns without states out")
    if not np.linalg.norm(direction) > 0:
        raise ValueError("the direction has length 0")
    moved = after.mean(axis=0) - before.mean(axis=0)
    centred = before - before.mean(axis=0)
    drawn = np.random.default_rng(seed).normal(size=(random, len(before))) @ centred
    chance = np.quantile(np.abs(_shifts(moved, centred, drawn)), 0.95)
    length = float(np.linalg.norm(moved) * np.linalg.norm(direction))
    share = (float(moved @ direction) / length) ** 2 if length > 0 else 0.0
    return Drift(float(_shifts(moved, centred, direction[None])[0]), float(chance), share)


def _shifts(moved: Array, centred: Array, directions: Array) -> Array:
    """The displacement along each of directions[k, d] in standard deviations of the projections; 0 without any."""
    spread = np.sqrt(np.mean((centred @ directions.T) ** 2, axis=0))
    along = directions @ moved
    return np.where(spread > 0, along / np.where(spread > 0, spread, 1.0), 0.0)
