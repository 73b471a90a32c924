"""How many replicates turned: the bimodal null, in which training ends well in most runs and badly in a few.

A t interval of a mean knows nothing of a catastrophe that no replicate showed. Each replicate of an arm has, whatever
the others do, the chance p of ending beyond a line; if k of n did, Clopper and Pearson's (1934, Biometrika 26) upper
bound of p is exact, and for k = 0 it is 1 - alpha^(1/n): .39 at 6, .22 at 12, .12 at 24 for alpha = .05.

The line is `STEP` margins away from the mean of the reference's replicates on the same subject, or `SPREADS` standard
deviations of the reference if its own replicates vary more: what the reference does itself is no catastrophe.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from statsmodels.stats.proportion import proportion_confint

STEP = 2.0
SPREADS = 3.0
Vector = NDArray[np.float64]
Kin = NDArray[np.intp]
"""The subject of each replicate, as a number."""


@dataclass(frozen=True)
class Turned:
    """`count` of `n` replicates ended more than `step` beyond the reference; their share is below `upper`."""

    count: int
    n: int
    step: float
    upper: float
    """Upper bound of the share of such replicates."""
    excluded: float
    """The bound if no replicate had: no arm of this size can exclude less."""
    room: bool
    """Whether the metric can get there at all."""

    @property
    def none(self) -> bool:
        """Is a share of `excluded` or more out of the question?"""
        return self.room and self.count == 0


class Beyond(NamedTuple):
    """Arrays over studies."""

    number: NDArray[np.intp]
    step: Vector
    room: NDArray[np.bool_]


def excluded_share(n: int, alpha: float = 0.05) -> float:
    """The share of catastrophes that n replicates without one exclude: 1 - alpha^(1/n)."""
    return 1 - alpha ** (1 / n)


def upper_share(count: int, n: int, alpha: float = 0.05) -> float:
    """Clopper and Pearson's one-sided upper bound."""
    return 1.0 if count >= n else float(proportion_confint(count, n, alpha=2 * alpha, method="beta")[1])


def beyond(
    outcomes: Vector, kin: Kin, reference: Vector, reference_kin: Kin, margin: float, limit: float = math.inf
) -> Beyond:
    """How many of the outcomes [..., n] lie above the lines that the reference [..., m] draws.

    A subject without a replicate of the reference has the mean of all of them. `limit` is the metric's greatest value.
    """
    subjects = 1 + int(max(kin.max(), reference_kin.max()))
    own = (reference_kin == np.arange(subjects)[:, None]).astype(float)
    counts = own.sum(axis=1)
    overall = reference.mean(axis=-1, keepdims=True)
    means = np.where(counts > 0, reference @ own.T / np.maximum(counts, 1.0), overall)
    squares = ((reference - means[..., reference_kin]) ** 2).sum(axis=-1)
    free = len(reference_kin) - int((counts > 0).sum())
    spread = np.sqrt(squares / free) if free > 0 else np.zeros(squares.shape)
    step = np.maximum(STEP * margin, SPREADS * spread)
    line = means[..., kin] + np.asarray(step)[..., None]
    return Beyond((outcomes > line).sum(axis=-1), step, (line < limit).all(axis=-1))


def turned(
    own: Mapping[int, float],
    reference: Mapping[int, float],
    subjects: Mapping[int, str],
    margin: float,
    *,
    direction: int = 1,
    limit: float = math.inf,
    alpha: float = 0.05,
) -> Turned:
    """The replicates of one arm that rose (direction 1) or fell (-1) beyond the reference; both [seed] -> outcome."""
    names = list(dict.fromkeys(subjects.get(seed, "") for seed in [*own, *reference]))
    kin, reference_kin = (np.array([names.index(subjects.get(s, "")) for s in side]) for side in (own, reference))
    ours, theirs = (direction * np.array(list(side.values())) for side in (own, reference))
    found = beyond(ours, kin, theirs, reference_kin, margin, direction * limit if math.isfinite(limit) else math.inf)
    count, n = int(found.number), len(own)
    return Turned(count, n, float(found.step), upper_share(count, n, alpha), excluded_share(n, alpha), bool(found.room))
