"""Are the metrics that a claim names ones that the runs of its study can have?"""

from __future__ import annotations

from launch.config.plugins import build_monitors
from launch.config.study import StudyConfig
from launch.errors import nearest
from launch.report.metrics import LABELS, MONITOR_PREFIX, monitor_of


def metric_problem(metric: str, study: StudyConfig) -> str:
    """What is wrong with the name, with the nearest valid one; empty for `deception`, `deception.<world>`, readings."""
    if metric in LABELS:
        return ""
    if metric.startswith(MONITOR_PREFIX):
        monitors = {monitor.name for monitor in build_monitors(study.eval)}
        name = str(monitor_of(metric))
        return "" if name in monitors else f"no monitor {name!r} reads the evaluation{nearest(name, monitors)}"
    name, dot, world = metric.partition(".")
    if name not in LABELS:
        return f"unknown metric {name!r}{nearest(name, LABELS)}"
    worlds = _worlds(study)
    return "" if dot and world in worlds else f"{world!r} is no world of the evaluation{nearest(world, worlds)}"


def _worlds(study: StudyConfig) -> set[str]:
    """The worlds of the evaluation at every point of the axes, which may change a world's language."""
    return {world for run in study.runs() for world in run.eval.worlds} if study.axes else set(study.eval.worlds)
