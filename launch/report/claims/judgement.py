"""Comparisons judged: raised, lowered, different, the same. One disjunction over all that may decide a claim."""

from __future__ import annotations

import math
from collections.abc import Sequence

from launch.report.claims.effects import Comparison, EffectEstimate, interval_of
from launch.report.claims.table import Table
from launch.report.statistics.decide import inside, mirrored, read
from launch.report.statistics.estimate import Estimate
from launch.report.statistics.noise import bounds
from launch.report.statistics.replicates import Turned, turned
from shaping.audits.intervals import holm


def shifts(
    table: Table,
    comparisons: Sequence[Comparison],
    *,
    margin: float,
    word: str = "raised",
    direction: int = 1,
    alpha: float | None = None,
) -> list[EffectEstimate]:
    """Each comparison is `word`, `not <word>` or `unclear`, in the direction asked for.

    `word`: the contrast reaches the margin, and its p, adjusted over all of them, is at most alpha. `not <word>`: all
    of its interval is short of the margin, and, for one arm against its reference, no replicate has turned.
    """
    alpha = table.evidence.alpha if alpha is None else alpha
    found = [table.estimate(each) for each in comparisons]
    asked = [one if one is None or direction > 0 else mirrored(one) for one in found]
    readings = [None if one is None else read(one, margin, alpha) for one in asked]
    adjusted = _adjusted([None if reading is None else float(reading.p) for reading in readings])
    outcomes = []
    for each, one, reading, p in zip(comparisons, found, readings, adjusted, strict=True):
        beyond = _turned(table, each, margin, direction, alpha)
        effect = "unclear"
        if reading is not None and bool(reading.rises) and p <= alpha:
            effect = word
        elif reading is not None and bool(reading.stays) and (beyond is None or beyond.none):
            effect = f"not {word}"
        outcomes.append(_outcome(table, each, one, alpha, direction, effect, p, beyond))
    return outcomes


def differences(table: Table, comparisons: Sequence[Comparison], *, margin: float) -> list[EffectEstimate]:
    """Each comparison `differs`, is the `same`, or is `unclear`.

    `differs`: the two-sided p, adjusted over all of them, is at most alpha, and the interval leaves the margin. `same`:
    the interval is inside, and no replicate has turned in either direction, as far as the metric can go there.
    """
    alpha = table.evidence.alpha
    found = [table.estimate(each) for each in comparisons]
    adjusted = _adjusted([None if one is None else float(one.apart()) for one in found])
    outcomes = []
    for each, one, p in zip(comparisons, found, adjusted, strict=True):
        effect, beyond = "unclear", _turned(table, each, margin, 1, alpha)
        if one is not None and bool(inside(one, margin, alpha)):
            effect = "same" if _steady(table, each, margin, alpha) else "unclear"
        elif one is not None and p <= alpha:
            effect = "differs"
        outcomes.append(_outcome(table, each, one, alpha, 0, effect, p, beyond))
    return outcomes


def beside(table: Table, comparison: Comparison) -> EffectEstimate:
    """A comparison that is printed and decides nothing."""
    found = table.estimate(comparison)
    n = table.replicates(comparison)
    level = 1 - 2 * table.evidence.alpha
    return EffectEstimate(
        comparison.metric, comparison.name, interval_of(found, level, n), level, direction=0, decides=False
    )


def _outcome(
    table: Table,
    each: Comparison,
    found: Estimate | None,
    alpha: float,
    direction: int,
    effect: str,
    p: float,
    beyond: Turned | None,
) -> EffectEstimate:
    level, n = 1 - 2 * alpha, table.replicates(each)
    se = math.nan if found is None else float(found.se)
    return EffectEstimate(
        each.metric,
        each.name,
        interval_of(found, level, n),
        level,
        direction,
        effect,
        p=p,
        se=se,
        turned=beyond,
    )


def _adjusted(ps: Sequence[float | None]) -> list[float]:
    """Holm's adjustment over the comparisons that could be estimated; nan for the others."""
    known = [p for p in ps if p is not None]
    adjusted = iter(holm(known))
    return [math.nan if p is None else float(next(adjusted)) for p in ps]


def _turned(table: Table, each: Comparison, margin: float, direction: int, alpha: float) -> Turned | None:
    own, base = table.column(each.arm, each.metric), table.base(each)
    if not (each.arm and own and base):
        return None
    low, high = bounds(each.metric)
    limit = high if direction > 0 else low
    return turned(own, base, table.evidence.subjects, margin, direction=direction, limit=limit, alpha=alpha)


def _steady(table: Table, each: Comparison, margin: float, alpha: float) -> bool:
    """No replicate has turned in either direction, and one could have in at least one."""
    both = [_turned(table, each, margin, direction, alpha) for direction in (-1, 1)]
    known = [beyond for beyond in both if beyond is not None]
    return not known or (not any(beyond.count for beyond in known) and any(beyond.room for beyond in known))
