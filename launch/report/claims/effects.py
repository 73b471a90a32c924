"""What one interval says about one effect, against a smallest effect of interest. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from launch.report.metrics import label
from launch.report.table import Interval, Values, difference, finite
from shaping.audits.intervals import paired_pvalue

Effect = Literal["raised", "not raised", "unclear"]


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

    @property
    def label(self) -> str:
        return label(self.metric)


def raised(difference: Interval, delta: float) -> Effect:
    """Is the difference above zero by an amount that matters?

    `raised`: the whole interval is above 0 and reaches `delta`; `not raised`: the whole interval is below `delta`;
    `unclear`: it allows both, or there is no interval.
    """
    if math.isnan(difference.low):
        return "unclear"
    if difference.high < delta:
        return "not raised"
    return "raised" if difference.low > 0 else "unclear"


def differs(difference: Interval, delta: float) -> Literal["differs", "same", "unclear"]:
    """`differs`: the interval excludes 0 and leaves (-delta, delta); `same`: it lies inside; else `unclear`."""
    if math.isnan(difference.low):
        return "unclear"
    if -delta < difference.low and difference.high < delta:
        return "same"
    return "differs" if difference.low > 0 or difference.high < 0 else "unclear"


def pooled(values: Values, arms: Sequence[str], metric: str) -> dict[int, float]:
    """Mean over arms for every seed in which all of them have the metric."""
    columns = [values.get(arm, {}).get(metric, {}) for arm in arms]
    seeds = set.intersection(*(set(column) for column in columns)) if columns else set()
    return finite({seed: sum(column[seed] for column in columns) / len(columns) for seed in sorted(seeds)})


def contrast(
    values: Values, arms: Sequence[str], base: Sequence[str], metric: str, level: float, name: str
) -> EffectEstimate:
    """Paired difference of two pools of arms; no effect read off it yet."""
    found = difference(pooled(values, arms, metric), pooled(values, base, metric), level)
    return EffectEstimate(metric, name, found, level, decides=False)


def shift_effect(found: Interval, delta: float, word: str, direction: int = 1) -> str:
    """`raised`, for a direction of -1 its mirror image, told as `word`, `not word` or `unclear`."""
    asked = found if direction > 0 else Interval(-found.mean, -found.high, -found.low, found.n)
    return {"raised": word, "not raised": f"not {word}", "unclear": "unclear"}[raised(asked, delta)]


def shift_test(
    values: Values,
    arms: Sequence[str],
    base: Sequence[str],
    metric: str,
    *,
    level: float,
    delta: float,
    name: str,
    word: str = "raised",
    direction: int = 1,
) -> EffectEstimate:
    """Is `metric` raised (direction 1) or lowered (-1) in the pool `arms` against the pool `base`?"""
    found = contrast(values, arms, base, metric, level, name).interval
    return EffectEstimate(metric, name, found, level, direction, shift_effect(found, delta, word, direction))


def difference_test(
    values: Values, arms: Sequence[str], base: Sequence[str], metric: str, *, level: float, delta: float, name: str
) -> EffectEstimate:
    """Do the pools `arms` and `base` differ in `metric`, or are they the same?"""
    found = contrast(values, arms, base, metric, level, name).interval
    return EffectEstimate(metric, name, found, level, 0, differs(found, delta))


def either(effects: Collection[str], there: str, absent: str) -> Literal["supported", "contradicted", "inconclusive"]:
    """supported: one effect is `there`; contradicted: all are `absent`; else inconclusive."""
    if there in effects:
        return "supported"
    return "contradicted" if set(effects) == {absent} else "inconclusive"


def combined_p(values: Values, arm: str, base: Sequence[str], metrics: Sequence[str]) -> float:
    """Bonferroni over the metrics: n x the smallest two-sided p-value of the paired differences, at most 1."""
    found = [paired_pvalue(pooled(values, [arm], m), pooled(values, base, m)) for m in metrics]
    known = [p for p in found if not math.isnan(p)]
    return min(1.0, len(metrics) * min(known)) if known else math.nan
