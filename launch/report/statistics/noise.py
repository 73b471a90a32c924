"""How much an evaluation of so many episodes varies by itself: a floor of the variance between replicates.

A rate that is 0 in every replicate has not the variance 0: each was counted over few chances. With x events of M
chances in all replicates of an arm, p = (x + 2) / (M + 4) (Agresti and Coull 1998, Am. Stat. 52) stays away from 0 and
1, and a replicate of m chances has at least the variance p (1 - p) / m. Chances of one episode depend on each other, so
that m is the smaller of episodes and opportunities.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from launch.report.metrics import record_of
from shaping.audits.conduct.cells import LEAK_PREFIX, MAX_LEAK_PREFIX, parse

ADDED = 2.0


def bounds(metric: str) -> tuple[float, float]:
    """The least and the greatest value of a metric; infinite for one that is no share."""
    if parse(metric).prefix in (LEAK_PREFIX, MAX_LEAK_PREFIX):
        return -1.0, 1.0
    record = record_of(metric)
    unit = record.unit if record else ""
    if unit.startswith("difference of shares"):
        return -1.0, 1.0
    if unit == "events per opportunity" or (unit.startswith("share of") and not unit.endswith("return")):
        return 0.0, 1.0
    return -math.inf, math.inf


def floor(metric: str, values: Iterable[float], chances: float) -> float:
    """The least variance of one replicate of an arm whose replicates have these values over `chances` each.

    A difference of two rates has half of the chances on either side, so four times the variance. 0 for a metric that is
    no share, and where the chances are unknown (0).
    """
    low, high = bounds(metric)
    shares = [min(abs(value), 1.0) for value in values]
    if not (math.isfinite(high) and shares and chances > 0):
        return 0.0
    events, total = chances * sum(shares), chances * len(shares)
    rate = (events + ADDED) / (total + 2 * ADDED)
    return (1.0 if low == 0 else 4.0) * rate * (1 - rate) / chances
