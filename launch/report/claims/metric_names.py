"""Are the metrics that a claim names ones that the runs of its study can have?"""

from __future__ import annotations

from launch.config.plugins import build_monitors
from launch.config.study import StudyConfig
from launch.errors import nearest
from launch.report.metrics import MONITOR_PREFIX, monitor_of
from shaping.audits.metrics import all_metrics, metrics_of

BEFORE_DROPPING = "with_quarantine/"
"""Before a metric of the evaluation: measured while the quarantine adapters are still in place."""


def metric_problem(metric: str, study: StudyConfig) -> str:
    """What is wrong with the name of a metric, with the nearest valid one; empty if nothing is."""
    if metric.startswith(MONITOR_PREFIX):
        monitors = {monitor.name for monitor in build_monitors(study.eval)}
        name = str(monitor_of(metric))
        return "" if name in monitors else f"no monitor {name!r} reads the evaluation{nearest(name, monitors)}"
    per_world = {found.name for found in metrics_of("evaluation")}
    early = metric.startswith(BEFORE_DROPPING)
    known = per_world if early else {m.name for m in all_metrics() if m.source != "condition" and not m.family}
    name, dot, world = metric.removeprefix(BEFORE_DROPPING).partition(".")
    if name not in known:
        return f"unknown metric {name!r}{nearest(name, known)}"
    if not dot:
        return ""
    if name not in per_world:
        return f"{name} is not measured per world: leave .{world} out"
    worlds = _worlds(study)
    return "" if world in worlds else f"{world!r} is no world of the evaluation{nearest(world, worlds)}"


def _worlds(study: StudyConfig) -> set[str]:
    """The worlds of the evaluation at every point of the axes, which may change a world's language."""
    swept = study.axes or study.points
    return {world for run in study.runs() for world in run.eval.worlds} if swept else set(study.eval.worlds)
