"""One run from its config to its result: build the parts, train, evaluate, write everything."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from envs.calls import call
from envs.episode import Episode
from launch.check_model.known import gates_in_result
from launch.config.stages import SupervisedStage, name_of
from launch.config.study import RunConfig
from launch.config.world_names import trained_worlds
from launch.preference.stage import preference_stage
from launch.run import rendering
from launch.run.alarm_log import AlarmLog, weak_signal_log
from launch.run.build import Parts, build
from launch.run.device import own_device
from launch.run.evaluation.access import access_parts, reward_access, trajectory_access
from launch.run.evaluation.alarms import AlarmHalt, trained_against
from launch.run.evaluation.eval_plan import Played
from launch.run.evaluation.evaluate import Evaluated, evaluate_trained, rows, rows_of_start, start_parts
from launch.run.evaluation.hiding import state_metrics
from launch.run.evaluation.losses import losses, lost_share
from launch.run.evaluation.monitors import EvaluationReadings, read_evaluation
from launch.run.evaluation.pressure import audit_pressure
from launch.run.evaluation.relearned import relearned_metrics
from launch.run.evaluation.spike_in import spike_in_metrics
from launch.run.evaluation.thoughts import ThoughtWatch
from launch.run.finetuning.data import check_data, check_rows, updates_of
from launch.run.finetuning.directories import Stages, after, finished_stage, with_stages
from launch.run.finetuning.lengths import check_length, check_lengths
from launch.run.finetuning.preference_model import train_preference_model
from launch.run.finetuning.stage_runs import Start, stage_of, stage_run
from launch.run.finetuning.updates import step_of
from launch.run.finetuning.written import Writer, rows_for
from launch.run.models.origin import check_origin, origin
from launch.run.pace.average import averaged, evaluation_after
from launch.run.recovery import surviving
from launch.run.timing import add, of_run, timed
from launch.storage.checkpoint import Checkpoints
from launch.storage.resume import resume
from launch.storage.rundir import STAGES, RunDirectory
from launch.storage.versions import versions
from launch.tracking.prometheus import record
from launch.tracking.tracking import tracked
from launch.train import train
from shaping.audits.conduct.seats import games_summary, seat_rows
from shaping.audits.played import OWN, cells_of
from shaping.audits.summary import summarise
from shaping.audits.training.alarm import alarms
from shaping.hooks import InterventionError
from shaping.intervention import Intervention
from shaping.labels.describe import labels_in_words
from shaping.monitors.reachable import spent_names
from shaping.monitors.records import version_of

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
    if preference_stage(run.stages) is not None:
        return train_preference_model(run, model, directory, on_update)
    if run.stages:
        return _through_stages(run, model, directory, on_update)
    return surviving(lambda: _attempt(run, model, directory, on_update), directory, run)


def _through_stages(run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate) -> dict[str, Any]:
    """Every stage in turn. All but the last have directories of their own, and are kept once they are finished."""
    check_data(run)
    check_lengths([(run, model)])
    if Checkpoints.of(directory, run).newest() is not None:  # before a stage is made again with other files
        check_origin(directory, run, model)
    directory.begin(run.recorded, versions(), **origin(run, model))
    start, done = Start(model), list[dict[str, Any]]()
    writers = {"": Writer(run, model)}
    for index, stage in enumerate(run.stages):
        start = Start(model) if stage.start == "model" else start
        rows = rows_for(run, stage, writers, directory.path / STAGES)
        own = stage_run(run, index, start, model, updates_of(run, stage), rows)
        if rows and isinstance(stage, SupervisedStage):  # those of the other stages were looked at before the first
            check_rows(own, stage)
            check_length(own, start.model, stage)
        if index == len(run.stages) - 1:
            break
        folder = directory.stage(name_of(stage))
        done.append(
            finished_stage(folder, own, model)
            or surviving(partial(_attempt, own, start.model, folder, lambda *_: None), folder, own)
        )
        start = after(start, folder)
        writers[name_of(stage)] = Writer(own, folder.checkpoint)
    return surviving(partial(_attempt, own, start.model, directory, on_update, done), directory, own)


def _attempt(
    run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate, before: Stages = ()
) -> dict[str, Any]:
    with own_device(run) as device:
        return _on(device, run, model, directory, on_update, before)


def _on(
    device: str, run: RunConfig, model: Path, directory: RunDirectory, on_update: OnUpdate, stages: Stages
) -> dict[str, Any]:
    started, used = time.monotonic(), time.process_time()
    seconds: dict[str, float] = {}
    with contextlib.closing(build(run, model, device)) as parts:
        step = step_of(parts.trainer)
        before, first, access = _first_update(parts, run, model, directory, seconds)
        thoughts = ThoughtWatch(run.max_tokens)
        watchers = [
            lambda done: record(run, done.row, done.seconds),
            lambda done: thoughts.see(done.episodes),
            lambda done: add(seconds, "evaluate", done.seconds),
            AlarmLog(run, directory.rows() if first else ()).see,
            weak_signal_log(run, directory.rows() if first else ()),
            lambda done: on_update(done.number, done.row),
        ]
        measure = partial(evaluation_after, run, parts.player)
        updates = train(parts.trainer, directory, first, access, watchers, measure, step)
        parts.trainer.check_ledger()
        directory.check_rows(updates)  # the summary is of them: replay what is lost before the evaluation
        if not parts.evaluates_on_workers:
            parts.end_workers()  # the evaluation samples in this process: give it their memory
        with timed(seconds, "evaluate"):
            evaluated = _evaluated(run, parts)
        result = {**_result(parts, run, directory, before, access, evaluated), **gates_in_result(run, model, before)}
        result = with_stages(run, result, stages)
    took = of_run(time.monotonic() - started, time.process_time() - used, seconds)
    directory.timings({"phase": "run", "first_update": first, **took})
    directory.finish(result)
    return result


def _evaluated(run: RunConfig, parts: Parts) -> Evaluated:
    """What the evaluation finds; nothing after a stage that asks for none, whose hooks are undone all the same."""
    stage = stage_of(run)
    if stage is None or stage.evaluate or run.stages[-1] == stage:
        return evaluate_trained(run, parts.arm, parts.player, parts.trained)
    parts.trained.undo()
    return Evaluated({}, {}, {}, [])


def _first_update(
    parts: Parts, run: RunConfig, model: Path, directory: RunDirectory, seconds: dict[str, float]
) -> tuple[list[dict[str, Any]], int, dict[str, float]]:
    """(Rows of the model before training, the update to begin with, the initial audit): new, or of a saved state."""
    saved = directory.status() == "partial" and Checkpoints.of(directory, run).newest() is not None
    base, played = start_parts(run), Played()
    if saved:
        check_origin(directory, run, model)
        with timed(seconds, "evaluate"):
            played = parts.player.play(base)  # before the state replaces the weights
    if (resumed := resume(parts.trainer, directory, run)) is not None:
        return rows_of_start(run, played), *resumed
    made_of = {**origin(run, model), "rendering": rendering.record(parts.renderer)}
    directory.create(run.recorded, versions(), **made_of)
    with timed(seconds, "evaluate"):
        audited = access_parts(run, parts.arm)
        played += parts.player.play(audited if saved else [*base, *audited])
        reached = reward_access(run, played[len(base) :])
        access = trajectory_access(run, parts.arm, parts.trained, parts.renderer)
    initial = {f"{metric}_initial": value for metric, value in reached.items()}
    return rows_of_start(run, played[: len(base)]), 0, {**access, **initial}


def _read(parts: Parts, run: RunConfig, directory: RunDirectory, episodes: Sequence[Episode]) -> EvaluationReadings:
    """What the monitors read in the evaluation; their records are written beside its episodes."""
    policy = parts.trainer.monitors.policy
    read = read_evaluation(parts.monitors, episodes, run.eval.monitor_timeout, policy=policy)
    read.metrics.update(state_metrics(parts.monitors, episodes, parts.policy))
    if parts.monitors:
        directory.records("eval", read.records)
    return read


def _about_monitors(
    parts: Parts, run: RunConfig, directory: RunDirectory, read: EvaluationReadings
) -> dict[str, dict[str, Any]]:
    """Name of a monitor -> its version, episodes at which it failed, and its thresholds; why training was halted."""
    training = parts.trainer.monitors
    thresholds = training.policy.thresholds if training.policy else {}
    halted = AlarmHalt(run.eval.alarms, directory.rows()).why
    return {
        monitor.name: {
            "use": f"{type(monitor).__module__}:{type(monitor).__qualname__}",
            "version": version_of(monitor),
            "oracle": monitor.oracle,
            "failed": {"training": training.failed[monitor.name], "evaluation": read.failed.get(monitor.name, 0)},
            "thresholds": dict(thresholds.get(monitor.name, {})),
            "halted": halted if f"monitor {monitor.name!r} " in halted else "",
        }
        for monitor in parts.monitors
    }


def untested(interventions: Sequence[Intervention], summary: Mapping[str, float]) -> list[str]:
    """Why the run says nothing about its methods, one line per intervention that has a reason."""
    asked = ((i, call(InterventionError, i, "untested", dict(summary))) for i in interventions)
    found = []
    for i, reason in asked:
        if not isinstance(reason, str):
            raise InterventionError(f"{type(i).__name__}.untested() returned {reason!r:.80}; it must return text")
        found += [f"{type(i).__name__}: {reason}"] if reason else []
    return found


def _result(
    parts: Parts,
    run: RunConfig,
    directory: RunDirectory,
    before: list[dict[str, Any]],
    access: Mapping[str, float],
    evaluated: Evaluated,
) -> dict[str, Any]:
    """Write the evaluation, save the trained policy, and compute the result."""
    conditions, renderer = evaluated.conditions, parts.renderer
    access = {**access, **evaluated.access}
    directory.evaluation([*before, *rows(conditions)])
    episodes = [e for condition in conditions.values() for e in condition]
    lost = losses(conditions)
    pressure, strategies = audit_pressure(run)
    directory.episodes("eval", episodes)
    if evaluated.games:
        directory.episodes("games", evaluated.games)
    parts.trained.save(directory)
    parts.end_workers()
    read = _read(parts, run, directory, [e for e in episodes if OWN in cells_of(e)])
    # from what is on disk, so that a resumed run gives the same numbers
    summary = (
        averaged(summarise(directory.rows(), conditions, access), directory.rows())
        | dict(evaluated.attached)
        | read.metrics
        | lost_share(lost)
        | games_summary(evaluated.games)
        | pressure
        | spike_in_metrics(run, conditions, parts.monitors, renderer)
        | relearned_metrics(run, directory.checkpoint)
    )
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
        "spent_monitors": spent_names(
            [parts.arm, parts.trainer.reward, *trained_against(run.eval.alarms, parts.monitors)], parts.monitors
        ),
        "monitors": _about_monitors(parts, run, directory, read),
        "alarms": alarms(directory.rows(), run.gauge),
        "oracle": parts.arm.oracle,
        "labels": labels_in_words(parts.arm.interventions),
        "interventions": [dict(i.state_dict()) for i in parts.arm.interventions],
        "untested": untested(parts.arm.interventions, summary),
        "summary": summary,
        "pressure": strategies,
        "seats": seat_rows(evaluated.games),
        "attrition": {**parts.trainer.ledger.as_dict(), "evaluation": lost},
    }
