"""Metrics as means over the evaluations after the last updates: `eval.average_last`.

What reward leaves open drifts from update to update. A mean over several of them has less noise than the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch.config.study import RunConfig
from launch.run.evaluation.eval_player import EvalPlayer
from launch.run.evaluation.evaluate import conditions_of, deployment_part
from launch.run.rng import rng_state, set_rng_state
from shaping.audits.summary import summarise

PREFIX = "eval/"
"""Begins the columns of metrics.jsonl that hold an evaluation, so that a resumed run need not play it again."""


def evaluation_after(run: RunConfig, player: EvalPlayer, update: int) -> dict[str, float]:
    """The metrics of the weights after the 0-based `update`, as deployed; empty but for the last updates.

    The evaluation after the very last update is the run's own. Training is not affected: weights, adapters and random
    generators are afterwards as before.
    """
    if not run.train.updates - run.eval.average_last <= update < run.train.updates - 1:
        return {}
    tensors, values = rng_state()
    (played,) = player.play([deployment_part(run, "deployed", contexts=False)])
    set_rng_state(tensors, values)
    conditions = conditions_of(run, played, contexts=False)
    return {f"{PREFIX}{metric}": value for metric, value in summarise([], conditions, {}).items()}


def averaged(last: Mapping[str, float], rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """The means of metrics over the last evaluation and those in `rows` of metrics.jsonl that have them."""
    found: dict[str, list[float]] = {metric: [value] for metric, value in last.items()}
    for row in rows:
        for column, value in row.items():
            if column.startswith(PREFIX):
                found.setdefault(column.removeprefix(PREFIX), []).append(float(value))
    return {metric: sum(values) / len(values) for metric, values in found.items()}
