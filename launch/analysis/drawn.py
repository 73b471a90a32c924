"""The charts of a study: learning curves, and the effects behind its verdicts."""

from __future__ import annotations

import math
from collections.abc import Sequence

from launch.analysis.charts import Block, Chart, Line, Mark, forest_chart, line_chart
from launch.errors import UserError
from launch.report.claims.verdict import Verdict
from launch.report.escaping import signed
from launch.report.files.load import Study
from launch.report.metrics import label
from launch.report.palette import styles
from launch.report.series import band, window_of

WORDS = {"supported": "#0072b2", "contradicted": "#d55e00"}
"""Colour of the effects of a claim, by its verdict."""
_DASHES = {"dash": "6 4", "dot": "2 3", "dashdot": "6 3 2 3"}


def curves(study: Study, metric: str, arms: Sequence[str] = ()) -> Chart:
    """The smoothed mean over replicates at each update, and its 95 % interval. Raises `UserError` without any value."""
    look, window = styles(study.arms), window_of(study.runs)
    lines = []
    for name in arms or study.arms:
        found = band(study.of(name), metric, window)
        if found.update:
            style = look[name]
            lines.append(
                Line(
                    study.arms[name].title,
                    style.colour,
                    found.update,
                    found.mean,
                    found.low,
                    found.high,
                    _DASHES.get(style.dash, ""),
                )
            )
    if not lines:
        raise UserError(f"metric: {metric!r} has no value in any update of {', '.join(arms or study.arms)}")
    smoothed = f"running mean over {window} updates, " if window > 1 else ""
    return line_chart(f"{metric} in {study.name}", f"update ({smoothed}95 % intervals over replicates)", lines)


def effects(verdicts: Sequence[Verdict], name: str) -> Chart:
    """One block per claim with the numbers that decide it. Raises `UserError` if there is none."""
    blocks = [
        Block(f"{each.claim}{f' at {each.point}' if each.point else ''}: {each.verdict}", marks)
        for each in verdicts
        if (marks := deciding(each))
    ]
    if not blocks:
        raise UserError(f"{name}: no claim could be tested, so that there is no effect to draw")
    return forest_chart(f"Effects in {name}", "difference (unit of the metric), with its interval", blocks)


def deciding(verdict: Verdict) -> list[Mark]:
    """The numbers that decide a verdict, as rows."""
    return [
        Mark(
            f"{label(each.metric)}: {each.contrast}",
            *each.interval[:3],
            WORDS.get(verdict.verdict, "#555555"),
            signed(*each.interval[:3], digits=2),
        )
        for each in verdict.outcomes
        if each.decides and math.isfinite(each.interval.mean)
    ]
