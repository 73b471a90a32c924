"""Advantages as pure functions of returns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EPSILON = 1e-6
"""Below this standard deviation a group counts as without variance and teaches nothing."""


def group_normalised(returns: Array, groups: NDArray[np.int64], *, divide_by_std: bool = True) -> Array:
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


def zero_variance(returns: Array, groups: NDArray[np.int64]) -> float:
    """Share of groups whose returns do not differ."""
    kinds = np.unique(groups)
    flat = [returns[groups == g].std() <= EPSILON for g in kinds]
    return float(np.mean(flat)) if flat else 0.0


def with_cost(reward: Array, cost: Array, weight: float) -> Array:
    """reward - weight * cost, both already normalised *apart*: one std over r - weight * c would cancel the weight."""
    return reward - weight * cost
