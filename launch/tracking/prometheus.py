"""Stage times and counts of a run for Prometheus. Without Ray, nothing is recorded.

Ray serves these metrics on the metrics port of every node, with the prefix `ray_` (docs/tracking.md).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from launch.config.study import RunConfig

TAGS = ("study", "run")
BOUNDARIES = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0]
"""Seconds. Ray computes the sum of a histogram from its buckets, inexactly; the counter `seconds` is exact."""
PREFIX = "seconds/"


@dataclass(frozen=True)
class _Metrics:
    stage: Any
    seconds: Any
    episodes: Any
    tokens: Any
    update: Any


@cache
def _metrics() -> _Metrics:
    from ray.util.metrics import Counter, Gauge, Histogram

    staged = (*TAGS, "stage")
    return _Metrics(
        Histogram("shaping_stage_duration_seconds", "Wall seconds of a stage of one update", BOUNDARIES, staged),
        Counter("shaping_stage_seconds", "Wall seconds spent in a stage", staged),
        Counter("shaping_episodes", "Episodes that were played for updates, by fate", (*TAGS, "fate")),
        Counter("shaping_tokens", "Tokens in the loss", TAGS),
        Gauge("shaping_updates", "Updates done", TAGS),
    )


def record(run: RunConfig, row: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    """Record one update: its row of metrics.jsonl, and its wall seconds (`seconds/<stage>`)."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    metrics, tags = _metrics(), {"study": run.study, "run": run.directory_name}
    for name, value in seconds.items():
        if name.startswith(PREFIX):
            staged = {**tags, "stage": name.removeprefix(PREFIX)}
            metrics.stage.observe(value, tags=staged)
            if value > 0:  # Ray refuses to add 0
                metrics.seconds.inc(value, tags=staged)
    for fate in ("trained", "filtered", "failed", "stale", "uninformative"):
        if row.get(fate):
            metrics.episodes.inc(float(row[fate]), tags={**tags, "fate": fate})
    if row.get("loss_tokens"):
        metrics.tokens.inc(float(row["loss_tokens"]), tags=tags)
    metrics.update.set(float(row.get("update", 0)) + 1, tags=tags)
