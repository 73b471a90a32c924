"""95 % intervals of gates: independent proportions, proportions of clustered answers, and means of pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

from shaping.audits.intervals import bootstrap_interval

Interval = tuple[float, float]


def difference_interval(first: tuple[int, int], second: tuple[int, int]) -> Interval:
    """Newcombe's interval of a difference of two shares, each (events, episodes). A little wide for equal seeds."""
    low, high = confint_proportions_2indep(*first, *second, compare="diff", method="newcomb")
    return float(low), float(high)


def share_interval(events: float, count: float) -> Interval:
    """Wilson's interval of a share."""
    low, high = proportion_confint(events, count, method="wilson")
    return float(low), float(high)


def clustered_interval(events: Sequence[float], chances: Sequence[float]) -> Interval:
    """Wilson's interval of all events by all chances, both given per cluster: answers of one seed hang together.

    The number of independent answers is the one that would give the variance between clusters. Where there is no
    variance it is the number of clusters with a chance.
    """
    e, c = np.asarray(events, float), np.asarray(chances, float)
    total, used = float(c.sum()), int((c > 0).sum())
    rate = float(e.sum()) / total
    effective = float(used)
    if 0 < rate < 1 and used > 1:
        variance = used / (used - 1) * float(((e - rate * c) ** 2).sum()) / total**2
        effective = min(total, rate * (1 - rate) / variance) if variance > 0 else total
    return share_interval(rate * effective, effective)


def pairs_interval(differences: Sequence[float]) -> Interval:
    """Percentile bootstrap of a mean over pairs. Needs two pairs."""
    _, low, high = bootstrap_interval(differences, range(len(differences)))
    assert math.isfinite(low) and math.isfinite(high), "one pair has no interval"
    return low, high
