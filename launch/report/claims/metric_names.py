"""Are the metrics that a claim names ones that the runs of its study can have?"""

from __future__ import annotations

from collections.abc import Sequence

from launch.config.plugins import build_monitors
from launch.config.stages import name_of
from launch.config.study import RunConfig, StudyConfig
from launch.errors import nearest
from launch.report.metrics import MONITOR_PREFIX, monitor_of
from shaping.audits.conduct.cells import MAX_LEAK_PREFIX, NONE, TRAINED_PREFIX, CellMetric, parse
from shaping.audits.metrics import all_metrics, metrics_of
from shaping.audits.played import CONTEXT, OWN, TRAIN
from shaping.audits.training.attached import prefix_of


def metric_problem(metric: str, study: StudyConfig) -> str:
    """What is wrong with the name of a metric, with the nearest valid one; empty if nothing is."""
    if metric.startswith(MONITOR_PREFIX):
        monitors = {monitor.name for monitor in build_monitors(study.eval)}
        name = str(monitor_of(metric))
        return "" if name in monitors else f"no monitor {name!r} reads the evaluation{nearest(name, monitors)}"
    early = prefix_of(metric)
    found = parse(metric.removeprefix(early))
    if found.stage and found.stage not in (names := [name_of(stage) for stage in study.stages if stage.evaluate]):
        return f"no stage {found.stage!r} is evaluated{nearest(found.stage, names)}"
    per_world = {known.name for known in metrics_of("evaluation")}
    plain = {m.name for m in all_metrics() if m.source not in ("condition", "cells") and not m.family}
    known = per_world if early or found.prefix or found.stage else plain
    if found.metric not in known:
        return f"unknown metric {found.metric!r}{nearest(found.metric, known)}"
    if problem := _problem_of_cell(found, study, early=bool(early)):
        return problem
    if not found.world:
        return ""
    if found.metric not in per_world:
        return f"{found.metric} is not measured per world: leave .{found.world} out"
    worlds = _worlds(study, found.prefix)
    where = "the training" if found.prefix == TRAINED_PREFIX else "the evaluation"
    return "" if found.world in worlds else f"{found.world!r} is no world of {where}{nearest(found.world, worlds)}"


def _problem_of_cell(found: CellMetric, study: StudyConfig, *, early: bool) -> str:
    """What the study does not evaluate, and so has no metric of."""
    if not found.prefix:
        return ""
    every = [run.eval for run in _points(study)]
    if found.prefix == TRAINED_PREFIX:
        return "" if any(TRAIN in e.cells for e in every) else f"{TRAINED_PREFIX} needs train among eval.cells"
    if early:
        return "the trigger grid is not tried on policies with adapters that are dropped at deployment"
    contexts = {context for e in every for context in e.contexts}
    if not contexts:
        return f"{found.prefix} needs eval.contexts: list the contexts, or write grid for all"
    if found.prefix != MAX_LEAK_PREFIX:
        tried = contexts | {NONE} if found.prefix == CONTEXT else contexts - {NONE}
        if found.context not in tried:
            return f"{found.context!r} is no context of eval.contexts{nearest(found.context, tried)}"
    metric = next(metric for metric in metrics_of("evaluation") if metric.name == found.metric)
    if metric.compares_cues:
        return f"{found.metric} compares episodes with and without a cue, and the trigger grid has none with"
    if found.prefix == MAX_LEAK_PREFIX and metric.direction != "lower_is_better":
        return f"{MAX_LEAK_PREFIX} is for metrics that are better when lower, which {found.metric} is not"
    return ""


def _worlds(study: StudyConfig, prefix: str) -> set[str]:
    """The worlds of the cell at every point of the axes, which may change a world's language."""
    found: set[str] = set()
    for run in _points(study):
        own = set(run.eval.worlds) if OWN in run.eval.cells else set()
        trained = set(run.train.worlds) if TRAIN in run.eval.cells else set()
        cell = {TRAINED_PREFIX: trained, "": own or trained}
        found |= cell.get(prefix, own | trained)
    return found


def _points(study: StudyConfig) -> Sequence[RunConfig]:
    """A run of every arm and point; of the first seed, as seeds change nothing here."""
    return [run for run in study.runs() if run.seed == study.seed_list[0]]
