"""One run from its config to its result: build the parts, train, evaluate, write everything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from launch.check_model.known import gates_in_result
from launch.config.study import RunConfig
from launch.config.world_names import trained_worlds
from launch.run import rendering
from launch.run.access import audit_access
from launch.run.build import Parts, build
from launch.run.device import own_device
from launch.run.evaluate import before_training, deploy, deployment, evaluate_with_quarantine, rows
from launch.run.losses import losses, lost_share
from launch.run.monitors import evaluation_metrics
from launch.run.origin import check_origin, origin
from launch.run.pace.average import averaged, evaluation_after
from launch.run.pressure import audit_pressure
from launch.run.recovery import surviving
from launch.run.spike_in import spike_in_metrics
from launch.run.thoughts import ThoughtWatch
from launch.storage.checkpoint import Checkpoints
from launch.storage.resume import resume
from launch.storage.rundir import RunDirectory
from launch.storage.versions import versions
from launch.tracking.prometheus import record
from launch.tracking.tracking import tracked
from launch.train import train
from shaping.audits.played import OWN, cells_of
from shaping.audits.summary import summarise
from shaping.monitors.reachable import spent_names

OnUpdate = Callable[[int, dict[str, Any]], None]
"""Called after every update with its number and its row of metrics.jsonl."""


@tracked
def execute(
    run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate = lambda *_: None
) -> dict[str, Any]:
    """Train and evaluate one run; everything is written to `directory`. Returns the result, as in result.json.

    If `directory` holds a training state of this config, the run resumes from it. It also does so when ranks of its
    learner group are lost.
    """
    return surviving(lambda: _attempt(run, model, directory, on_update), directory, run)


def _attempt(run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate) -> dict[str, Any]:
    with own_device(run) as device:
        return _on(device, run, model, directory, on_update)


def _on(device: str, run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate) -> dict[str, Any]:
    started = time.monotonic()
    before = before_training(run, model, device)
    with contextlib.closing(build(run, model, device)) as parts:
        first, access = _first_update(parts, run, model, directory)
        thoughts = ThoughtWatch(run.max_tokens)
        watchers = [
            lambda done: record(run, done.row, done.seconds),
            lambda done: thoughts.see(done.episodes),
            lambda done: on_update(done.number, done.row),
        ]
        measure = partial(evaluation_after, run, parts.policy, parts.renderer)
        updates = train(parts.trainer, directory, first, access, watchers, measure)
        parts.trainer.check_ledger()
        directory.check_rows(updates)  # the summary is of them: replay what is lost before the evaluation
        parts.end_workers()  # the evaluation samples in this process: give it their memory
        result = {**_evaluate(parts, run, directory, before, access), **gates_in_result(run, model)}
    directory.timings({"phase": "run", "first_update": first, "seconds": round(time.monotonic() - started, 2)})
    directory.finish(result)
    return result


def _first_update(parts: Parts, run: RunConfig, model: Path, directory: RunDirectory) -> tuple[int, dict[str, float]]:
    """The update to begin with, and the initial audit: from a saved state, or of a new run."""
    if directory.status() == "partial" and Checkpoints.of(directory, run).newest() is not None:
        check_origin(directory, run, model)
    if (resumed := resume(parts.trainer, directory, run)) is not None:
        return resumed
    made_of = {**origin(run, model), "rendering": rendering.record(parts.renderer)}
    directory.create(run.model_dump(mode="json"), versions(), **made_of)
    return 0, audit_access(run, parts.arm, parts.policy, parts.renderer, parts.engine, "initial")


def _evaluate(
    parts: Parts,
    run: RunConfig,
    directory: RunDirectory,
    before: list[dict[str, Any]],
    access: Mapping[str, float],
) -> dict[str, Any]:
    """Audit, deploy, evaluate and save the trained policy. Returns the result."""
    policy, renderer, engine = parts.policy, parts.renderer, parts.engine
    access = {**access, **audit_access(run, parts.arm, policy, renderer, engine, "final")}
    quarantined = evaluate_with_quarantine(run, policy, renderer, directory)
    deploy(parts.arm, policy, engine)
    conditions = deployment(run, policy, renderer)
    directory.evaluation([*before, *rows(conditions)])
    episodes = [e for condition in conditions.values() for e in condition]
    lost = losses(conditions)
    pressure, strategies = audit_pressure(run)
    directory.episodes("eval", episodes)
    policy.save(directory.weights("checkpoint"))
    return {
        "arm": run.arm,
        "label": run.arm_config.label or run.arm,
        "role": run.arm_config.role,
        "family": parts.arm.family if run.arm_config.role != "reference" or parts.arm.interventions else "unshaped",
        "sweep_point": run.sweep_point,
        "seed": run.seed,
        "subject": run.subject,
        "updates": len(directory.rows()),
        "stopped_early": parts.trainer.ledger.stopped_after is not None,
        "trained_worlds": trained_worlds(run),
        "spent_monitors": spent_names([parts.arm, parts.trainer.reward], parts.monitors),
        "oracle": parts.arm.oracle,
        "interventions": [dict(i.state_dict()) for i in parts.arm.interventions],
        # from what is on disk, so that a resumed run gives the same numbers
        "summary": averaged(summarise(directory.rows(), conditions, access), directory.rows())
        | quarantined
        | evaluation_metrics(parts.monitors, [e for e in episodes if OWN in cells_of(e)], run.eval.monitor_timeout)
        | lost_share(lost)
        | pressure
        | spike_in_metrics(run, conditions, parts.monitors, renderer),
        "pressure": strategies,
        "attrition": {**parts.trainer.ledger.as_dict(), "evaluation": lost},
    }
