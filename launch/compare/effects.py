"""One effect in several studies, and how far two of them lie apart. Pure functions."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy import optimize, stats

from launch.report.claims.effects import EffectEstimate

_MOST_DF = 1e6


@dataclass(frozen=True)
class Effect:
    """A contrast in one study, in the unit of its metric."""

    mean: float
    low: float
    high: float
    n: int
    """Replicates of its smallest arm."""
    level: float
    se: float = math.nan
    """Standard error."""
    word: str = ""
    """What the study made of it, e.g. `raised`; empty where it decides nothing."""

    @classmethod
    def of(cls, found: EffectEstimate) -> Effect:
        word = found.effect if found.decides else ""
        return cls(*found.interval[:3], found.interval.n, found.level, found.se, word)

    @property
    def df(self) -> float:
        """Degrees of freedom of its t interval, from half its width: half = t((1 + level) / 2; df) se. NaN if unknown.

        A half-width of no more than the normal one stands for a million of them.
        """
        ratio = (self.high - self.low) / 2 / self.se if self.se > 0 else math.nan
        if not math.isfinite(ratio):
            return math.nan
        upper = (1 + self.level) / 2

        def beyond(df: float) -> float:
            return float(stats.t.ppf(upper, df)) - ratio

        if beyond(_MOST_DF) >= 0:
            return _MOST_DF
        return float(optimize.brentq(beyond, 0.2, _MOST_DF)) if beyond(0.2) > 0 else math.nan


@dataclass(frozen=True)
class Gap:
    """How far an effect lies from that of the first study."""

    mean: float
    low: float
    high: float

    @property
    def apart(self) -> bool:
        """Does the interval leave out zero?"""
        return self.low > 0 or self.high < 0


def gap(first: Effect, other: Effect) -> Gap:
    """Welch's interval of other - first, for studies whose runs are independent, at the first one's level.

    se^2 = se_1^2 + se_2^2 and df = se^4 / (se_1^4 / df_1 + se_2^4 / df_2) (Welch 1947, Biometrika 34). The bounds are
    NaN where an effect has no standard error.
    """
    mean, se = other.mean - first.mean, math.hypot(first.se, other.se)
    below = first.se**4 / first.df + other.se**4 / other.df
    if not math.isfinite(below) or below <= 0:
        return Gap(mean, math.nan, math.nan)
    half = float(stats.t.ppf((1 + first.level) / 2, se**4 / below)) * se
    return Gap(mean, mean - half, mean + half)
