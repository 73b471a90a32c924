"""A whole run in one row: how the policy behaves at deployment, and what its training looked like."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from envs.episode import Episode
from envs.frozen import frozen
from shaping.audits.metrics import mean_over_updates, metrics_of
from shaping.audits.played import EvalCondition, Played, sound
from shaping.audits.row import Row


def summarise(
    train_rows: Sequence[Mapping[str, Any]],
    conditions: Mapping[EvalCondition, Sequence[Episode]],
    access: Mapping[str, float],
) -> dict[str, float]:
    """The `summary` of a run: every metric of the registry. Values that are not defined are left out, never nan.

    `train_rows` are the rows of `metrics.jsonl`, `conditions` the deployment episodes per (world, watch, placebo),
    `access` is passed through (`reward_access` and its kin). A world's value pools the episodes of all of its
    conditions; the value without a world is the unweighted mean over worlds. Rates without any opportunity in a world
    leave that world out. Episodes that ended in an error are not counted. Stored episodes give the same values:
    `summarise(rows, conditions_of(read_episodes(path)), {})`.
    """
    rows = tuple(frozen(row) for row in train_rows)
    summary = Row("the evaluation", at_deployment(conditions))
    for metric in metrics_of("update"):
        if not metric.family and (mean := mean_over_updates(metric.name)(rows)) is not None:
            summary.add(metric.described, {metric.name: mean})
    for metric in metrics_of("training"):
        summary.add(metric.described, metric.measure(rows))
    summary.add("the audit of reward access", {metric: float(value) for metric, value in access.items()})
    return {metric: value for metric, value in summary.items() if math.isfinite(value)}


def at_deployment(conditions: Mapping[EvalCondition, Sequence[Episode]]) -> dict[str, float]:
    """The metrics of the evaluation: `<metric>` is the mean over worlds, `<metric>.<world>` that of one of them."""
    values: dict[str, dict[str, float]] = {}
    for world in sorted({world for world, _, _ in conditions}):
        played = Played({(w, p): sound(episodes) for (name, w, p), episodes in conditions.items() if name == world})
        for metric in metrics_of("evaluation") if played.episodes else ():
            for name, value in metric.measure(played).items():
                values.setdefault(name, {})[world] = value
    means = {name: _mean(by_world.values()) for name, by_world in values.items()}
    return means | {f"{name}.{world}": value for name, by in values.items() for world, value in by.items()}


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)
