"""A whole run in one row: how the policy behaves at deployment, and what its training looked like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envs.episode import Episode
from envs.frozen import frozen
from shaping.audits.metrics import Metric, mean_over_updates, metrics_of
from shaping.audits.played import OWN, EvalCondition, Played, sound
from shaping.audits.row import Row


def summarise(
    train_rows: Sequence[Mapping[str, Any]],
    conditions: Mapping[EvalCondition, Sequence[Episode]],
    access: Mapping[str, float],
) -> dict[str, float]:
    """The `summary` of a run: every metric of the registry. Values that are not defined are left out, never nan.

    `train_rows` are the rows of `metrics.jsonl`. `conditions` are the deployment episodes: those of the cell `own` make
    the plain metrics, the others those of `shaping.audits.conduct.cells`. `access` is passed through (`reward_access`
    and its kin). A world's value pools the episodes of all of its conditions; the value without a world is the
    unweighted mean over worlds. Rates without any opportunity in a world leave that world out. Episodes that ended in
    an error are not counted. Stored episodes give the same values:
    `summarise(rows, conditions_of(read_episodes(path)), {})`.
    """
    rows = tuple(frozen(row) for row in train_rows)
    cells = by_cell(conditions)
    summary = Row("the evaluation", cells.get(OWN, {}))
    for metric in metrics_of("cells"):
        summary.add(metric.described, metric.measure(cells))
    for metric in metrics_of("update"):
        for column in _columns(metric, rows):
            if (mean := mean_over_updates(column)(rows)) is not None:
                summary.add(metric.described, {column: mean})
    for metric in metrics_of("training"):
        summary.add(metric.described, metric.measure(rows))
    summary.add("the audit of reward access", {metric: float(value) for metric, value in access.items()})
    return {metric: value for metric, value in summary.items() if math.isfinite(value)}


def _columns(metric: Metric, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of a metric whose means are in the summary: of a family all, unless it is shown nowhere."""
    if not metric.family:
        return [metric.name]
    before = metric.name.partition("<")[0]
    return list(dict.fromkeys(c for row in rows for c in row if c.startswith(before))) if metric.shown != "no" else []


def by_cell(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> dict[str, dict[str, float]]:
    """Cell of the evaluation -> its metrics."""
    members: dict[str, list[EvalCondition]] = {}
    for condition in conditions:
        for cell in condition.cells:
            members.setdefault(cell, []).append(condition)
    known: dict[tuple[EvalCondition, ...], dict[str, float]] = {}  # cells may have all of their episodes in common
    for own in map(tuple, members.values()):
        if own not in known:
            known[own] = at_deployment({condition: conditions[condition] for condition in own})
    return {cell: known[tuple(own)] for cell, own in members.items()}


def at_deployment(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> dict[str, float]:
    """The metrics of one cell: `<metric>` is the mean over worlds, `<metric>.<world>` that of one of them."""
    values: dict[str, dict[str, float]] = {}
    for world in sorted({condition.world for condition in conditions}):
        played = Played({(c.watch, c.placebo): sound(own) for c, own in conditions.items() if c.world == world})
        for metric in metrics_of("evaluation") if len(played) else ():
            for name, value in metric.measure(played).items():
                values.setdefault(name, {})[world] = value
    means = {name: _mean(by_world.values()) for name, by_world in values.items()}
    return means | {f"{name}.{world}": value for name, by in values.items() for world, value in by.items()}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
