"""Rates over turns with Wilson intervals that know that turns of one episode resemble each other."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from statsmodels.stats.proportion import proportion_confint


class Figure(NamedTuple):
    """A number with its 95 % interval; nan where it does not exist. `n`: turns or episodes behind it."""

    value: float
    low: float
    high: float
    n: int


NOTHING = Figure(math.nan, math.nan, math.nan, 0)


def rate(hits: ArrayLike, clusters: ArrayLike | None = None) -> Figure:
    """The share of hits and its Wilson 95 % interval (Wilson 1927).

    With `clusters` the number of observations is divided by the design effect, the variance of the share over clusters
    (ratio estimator; Cochran 1977, 6.3) over that of independent observations, if it is above 1 (Korn and Graubard
    1998). Where all or none are hits, or there is one cluster, its size is unknown: each cluster counts as one.

    Args:
        hits: shape [observations].
        clusters: the cluster of each observation, shape [observations]; None: all are independent.
    """
    found = np.asarray(hits, bool)
    if not len(found):
        return NOTHING
    n, share = len(found), float(found.mean())
    effective = float(n)
    if clusters is not None:
        _, index = np.unique(np.asarray(clusters), return_inverse=True)
        sizes = np.bincount(index)
        if share in (0.0, 1.0) or len(sizes) == 1:
            effective = float(len(sizes))
        else:
            residuals = np.bincount(index, found.astype(float)) - share * sizes
            variance = len(sizes) / (len(sizes) - 1) * float((residuals**2).sum()) / n**2
            effective = n / max(1.0, variance / (share * (1 - share) / n))
    low, high = proportion_confint(share * effective, effective, method="wilson")
    return Figure(share, float(low), float(high), n)
