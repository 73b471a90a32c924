"""How likely a claim is to be decided as it says, if the margin is all there is to see, and with how many replicates.

An effect as large as the margin is found, or no effect at all is shown to be smaller than it. For effects the power is
that of the t test (noncentral t with Satterthwaite's degrees of freedom); for their absence, where no replicate may
turn either, it is the share of simulated studies that the same rule decides.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from launch.config.seeds import LEAST
from launch.report.statistics.decide import inside, read
from launch.report.statistics.estimate import Estimate
from launch.report.statistics.replicates import beyond

Kind = Literal["effect", "absence", "difference", "sameness"]
"""What a claim must show to be supported: a shift, none, a difference in either direction, none."""
TARGET = 0.8
MOST = 250
DRAWS = 2000
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Power:
    """Of one comparison: the replicates' standard deviation, and what n of them can decide."""

    sd: float
    n: int
    power: float
    needed: int | None
    """Replicates for a power of 80%; None: more than `MOST`."""
    assumed: bool = False
    """Whether the standard deviation was written down before the study ran."""


@dataclass(frozen=True)
class Question:
    """What is asked of arms: their weights and standard deviations, the margin, the level, and who is compared."""

    kind: Kind
    weights: tuple[float, ...]
    sds: tuple[float, ...]
    margin: float
    alpha: float = 0.05
    subjects: int = 1
    pair: bool = True
    """One arm against one reference: no replicate may turn."""

    def at(self, n: int) -> float:
        """The power with n replicates of each arm."""
        if n < LEAST:
            return 0.0
        return self._of_test(n) if self.kind in ("effect", "difference") else self._simulated(n)

    def needed(self) -> int | None:
        """The fewest replicates with a power of 80%."""
        return _needed(self)

    def _moments(self, n: int) -> tuple[float, float]:
        """Standard error and degrees of freedom."""
        parts = np.square(self.weights) * np.square(self.sds) / n
        whole = max(float(parts.sum()), 1e-300)
        df = whole**2 / max(float((parts**2 / (n - 1)).sum()), 1e-300)
        rows = len(self.sds) * (n - 1)
        lost = min(self.subjects, n) - 1
        return math.sqrt(whole), max(1.0, df * max(rows - lost, 1) / rows)

    def _of_test(self, n: int) -> float:
        se, df = self._moments(n)
        tail = self.alpha / 2 if self.kind == "difference" else self.alpha
        critical = float(stats.t.isf(tail, df))
        found = float(stats.nct.sf(critical, df, min(self.margin / se, 1e3)))
        # below the margin with all of its interval although above 0: too small to matter
        reach = float(stats.t.isf(self.alpha, df)) * se
        small = stats.t.cdf(-reach / se, df) - stats.t.cdf((critical * se - self.margin) / se, df)
        return max(0.0, found - max(0.0, float(small)))

    def _simulated(self, n: int) -> float:
        rng = np.random.default_rng([n, len(self.sds)])
        kin = np.arange(n) % max(1, self.subjects)
        draws = [rng.normal(0, sd, (DRAWS, n)) if sd > 0 else np.zeros((DRAWS, n)) for sd in self.sds]
        means = sum(w * each.mean(axis=1) for w, each in zip(self.weights, draws, strict=True))
        _, df = self._moments(n)
        variances = sum(w**2 * each.var(axis=1, ddof=1) / n for w, each in zip(self.weights, draws, strict=True))
        found = Estimate(np.asarray(means), np.sqrt(np.asarray(variances)), np.full(DRAWS, df))
        decided = (read(found, self.margin, self.alpha).stays if self.kind == "absence"
                   else inside(found, self.margin, self.alpha))  # fmt: skip
        if self.pair:
            steady = beyond(draws[0], kin, draws[-1], kin, self.margin).number == 0
            if self.kind == "sameness":
                steady &= beyond(-draws[0], kin, -draws[-1], kin, self.margin).number == 0
            decided = decided & steady
        return float(np.mean(decided))


@functools.cache
def _needed(question: Question) -> int | None:
    return least(lambda n: question.at(n) >= TARGET)


def least(enough: Callable[[int], bool]) -> int | None:
    """The smallest n from `LEAST` to `MOST` that is enough, where more are never too many; None without any."""
    low = high = LEAST
    while not enough(high):
        if high == MOST:
            return None
        low, high = high + 1, min(2 * high, MOST)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low
