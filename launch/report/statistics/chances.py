"""Over how many chances a run's evaluation counted each metric: the smaller of episodes and opportunities."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from launch.report.files.load import Run, Study
from shaping.audits.conduct.cells import TRAINED_PREFIX
from shaping.audits.metrics import metrics_of
from shaping.audits.played import OWN, TRAIN

EPISODES = ""
"""Key of the smallest number of episodes that a condition has: the chances of metrics that have no count."""


def chances(study: Study) -> dict[str, dict[str, float]]:
    """Arm -> metric -> chances behind one replicate's value, those of the run that had the fewest."""
    found: dict[str, dict[str, float]] = {arm: {} for arm in study.arms}
    for run in study.runs:
        own = found[run.arm]
        for metric, count in (*_of_run(run), *_least(run)):
            own[metric] = min(own.get(metric, count), count)
    return found


def _of_run(run: Run) -> Iterator[tuple[str, float]]:
    """For a mean over worlds the chances of all of them; for a metric without a count of its own the episodes."""
    for prefix, rows in _by_place(run.evaluation):
        per_world: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
        for row in rows:
            per_world[str(row["world"])].append(row)
        for metric in metrics_of("evaluation"):
            trait = metric.column.removeprefix("rate/")
            counts = {world: _chances(own, trait) for world, own in per_world.items()}
            yield f"{prefix}{metric.name}", sum(counts.values())
            yield from ((f"{prefix}{metric.name}.{world}", count) for world, count in counts.items())


def _least(run: Run) -> Iterator[tuple[str, float]]:
    if run.evaluation:
        yield EPISODES, min(_number(row.get("episodes")) for row in run.evaluation)


def _by_place(rows: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The rows by the prefix that their metrics have in a summary."""
    places: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        for cell in str(row.get("cell", OWN)).split():
            places[{OWN: "", TRAIN: TRAINED_PREFIX}.get(cell, f"{cell}/")].append(row)
    yield from places.items()


def _chances(rows: Iterable[Mapping[str, Any]], trait: str) -> float:
    """Within one condition chances are episodes or fewer; conditions have different episodes, so they add up."""
    return sum(min(_number(row.get("episodes")), _number(row.get(f"opportunity/{trait}"), many=True)) for row in rows)


def _number(value: Any, *, many: bool = False) -> float:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if known else (float("inf") if many else 0.0)
