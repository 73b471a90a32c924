"""When an estimate counts as an effect, and when as none. The same functions judge studies and simulations of them.

Each direction is a test at alpha, so that the interval beside it has the level 1 - 2 alpha (90%). Rejecting "at least
the margin" in each of several outcomes is an intersection-union test (Berger 1982, Technometrics 24), which needs no
correction; one effect among several is found by p-values that Holm's method has adjusted.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from launch.report.statistics.estimate import Estimate, Vector

Flags = NDArray[np.bool_]


class Reading(NamedTuple):
    """Of a contrast, arrays over studies."""

    rises: Flags
    """It reaches the margin; with a p below alpha it is raised."""
    stays: Flags
    """It is below the margin."""
    p: Vector
    """One-sided p of no rise, to be adjusted where several may decide."""


def read(found: Estimate, margin: float, alpha: float) -> Reading:
    """Of the upward direction; give minus the contrast for the other."""
    _, high = found.bounds(1 - 2 * alpha)
    return Reading(np.asarray(high >= margin), np.asarray(high < margin), found.above())


def mirrored(found: Estimate) -> Estimate:
    """The contrast the other way round."""
    return Estimate(-found.mean, found.se, found.df)


def inside(found: Estimate, margin: float, alpha: float) -> Flags:
    """Two one-sided tests (Schuirmann 1987, J. Pharmacokinet. Biopharm. 15): is the contrast inside the margin?"""
    low, high = found.bounds(1 - 2 * alpha)
    return np.asarray((low > -margin) & (high < margin))
