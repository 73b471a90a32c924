"""One number behind a verdict, and how effects become a word. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from launch.report.metrics import label
from launch.report.statistics.estimate import Estimate
from launch.report.statistics.power import Power
from launch.report.statistics.replicates import Turned
from launch.report.table import NOTHING, Interval


@dataclass(frozen=True)
class Comparison:
    """A metric and a contrast of arms in it: the sum of weight x mean."""

    metric: str
    name: str
    """What the contrast is called: `mask - unshaped`."""
    weights: Mapping[str, float]
    arm: str = ""
    """The one arm that is compared with `base`; empty for any other contrast."""
    base: tuple[str, ...] = ()
    from_zero: bool = False
    """Whether a mean is itself compared with zero: its weights then add up to 1."""


@dataclass(frozen=True)
class EffectEstimate:
    """One number behind a verdict. `effect` is about `direction` x the difference: 1 asks for more, -1 for less."""

    metric: str
    contrast: str
    interval: Interval
    level: float
    direction: int = 1
    effect: str = "unclear"
    decides: bool = True
    """False: printed for context only."""
    p: float = math.nan
    """Of no effect, adjusted by Holm's method over everything that may decide the claim."""
    se: float = math.nan
    """Standard error."""
    turned: Turned | None = None
    """Replicates that ended far beyond the reference."""
    power: Power | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        return label(self.metric)


def interval_of(found: Estimate | None, level: float, n: int) -> Interval:
    """The interval of a contrast whose smallest arm has n replicates."""
    if found is None:
        return NOTHING if not n else Interval(math.nan, math.nan, math.nan, n)
    low, high = found.bounds(level)
    return Interval(float(found.mean), float(low), float(high), n)


def difference_of(plus: Sequence[str], minus: Sequence[str]) -> dict[str, float]:
    """The weights of the mean of some arms minus that of others."""
    weights: dict[str, float] = {}
    for arms, sign in ((plus, 1.0), (minus, -1.0)):
        for arm in arms:
            weights[arm] = weights.get(arm, 0.0) + sign / len(arms)
    return weights


def either(effects: Collection[str], there: str, absent: str) -> Literal["supported", "contradicted", "inconclusive"]:
    """supported: one effect is `there`; contradicted: all are `absent`; else inconclusive."""
    if there in effects:
        return "supported"
    return "contradicted" if set(effects) == {absent} else "inconclusive"
