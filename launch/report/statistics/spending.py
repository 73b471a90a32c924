"""Levels of several looks at the same runs, so that together they err as often as one look would.

Lan and DeMets' (1983, Biometrika 70) spending of alpha in the shape of O'Brien and Fleming's (1979, Biometrics 35)
bounds: after a share t of the replicates 2 - 2 Phi(z_(alpha/2) / sqrt(t)) of it is spent. The statistics of the looks
are jointly normal with the correlation sqrt(t_i / t_j). Stopping for futility only makes errors rarer.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

FAR = 8.0


@functools.cache
def levels(looks: tuple[int, ...], alpha: float = 0.05) -> tuple[float, ...]:
    """The one-sided level of the test at each look, after so many replicates."""
    shares = [look / looks[-1] for look in looks]
    spent = [2 * stats.norm.sf(stats.norm.isf(alpha / 2) / math.sqrt(share)) for share in shares]
    bounds: list[float] = []
    for k, total in enumerate(spent):
        before = spent[k - 1] if k else 0.0
        bounds.append(_bound(bounds, shares[: k + 1], float(total - before)))
    return tuple(float(stats.norm.sf(bound)) for bound in bounds)


def _bound(earlier: Sequence[float], shares: Sequence[float], spend: float) -> float:
    """The bound that is crossed now, and none before, with the probability `spend` if there is no effect."""
    if not earlier:
        return float(stats.norm.isf(spend))
    stayed = _below(earlier, shares[:-1])
    return float(optimize.brentq(lambda bound: stayed - _below([*earlier, bound], shares) - spend, 0.0, FAR, xtol=1e-6))


def _below(bounds: Sequence[float], shares: Sequence[float]) -> float:
    """The probability that no bound is crossed."""
    if len(bounds) == 1:
        return float(stats.norm.cdf(bounds[0]))
    correlation = np.sqrt(np.minimum.outer(shares, shares) / np.maximum.outer(shares, shares))
    joint = stats.multivariate_normal(cov=correlation, seed=0, maxpts=200_000, abseps=1e-7, releps=1e-7)
    return float(joint.cdf(list(bounds)))


def chance_to_cross(z: float, share: float, level: float) -> float:
    """Conditional power: that the last look crosses its bound if what was seen goes on; z after a share of the runs."""
    if share >= 1:
        return float(z >= stats.norm.isf(level))
    return float(stats.norm.sf((stats.norm.isf(level) - z / math.sqrt(share)) / math.sqrt(1 - share)))
