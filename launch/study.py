"""Run a study: one Ray task per arm, sweep point and seed, as many at once as there are cores. Resumes after kills."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup

from launch.config.model import ModelSource, idle_organisms
from launch.config.reading.published import without_places
from launch.config.stages import updates_known
from launch.config.study import RunConfig, StudyConfig
from launch.distributed.local import RaySettings, interruptible, joined_ray, running_ray
from launch.distributed.needs import at_once, check_room, needs, shortage
from launch.distributed.placement import living, release, reserve
from launch.distributed.run_worker import (
    Job,
    ProgressActor,
    TaskResult,
    archive_model,
    execute,
    failure,
    load_function,
    log_line,
    marker_of,
    receive,
    train,
)
from launch.errors import ConfigError, DiskFullError, UserError, nearest
from launch.estimate.estimate import time_lines
from launch.hub.pins import pin, read_pins
from launch.met_worlds import notes_on_worlds
from launch.preflight import check_machine, check_study
from launch.run.evaluation.losses import flagged
from launch.run.finetuning.lengths import check_lengths
from launch.run.models.origin import model_key, settle, tell_other_versions
from launch.run.models.preference_memory import check_all_memory
from launch.run.models.pretraining_memory import check_pretraining
from launch.slices.seeds import as_text
from launch.storage.checkpoint import Checkpoints
from launch.storage.documents import write_json
from launch.storage.files import check_space, disk_errors, make_directory
from launch.storage.rundir import RunDirectory
from launch.storage.space import needed
from launch.storage.studydir import StudyDirectory, begun, open_study, plan
from launch.storage.versions import versions
from launch.tracking.progress import Display
from shaping.audits.training.weak_signal import weak_signals
from shaping.models.lora.base_reference import revision_of
from shaping.models.model_files import hashes

TRAINER = "launch.run.execute:execute"
START_MODEL = "launch.run.models.start_model:start_model"
ATTEMPTS = 2
"""Tries of a run whose worker dies or raises."""
POLL = 0.5
"""Seconds between two looks at the progress."""


@dataclass(frozen=True)
class Failure:
    """A run that failed, also in its last try."""

    name: str
    """`<arm>[+axis=value...]/seed-<k>`."""
    message: str
    """The error."""
    log: Path
    """The run's log file."""


@dataclass
class StudyResult:
    """How the runs of a study ended."""

    directory: Path
    """`<output>/<name>`."""
    finished: list[str] = field(default_factory=list)
    """Runs that finished now."""
    kept: list[str] = field(default_factory=list)
    """Runs that had finished before."""
    failed: list[Failure] = field(default_factory=list)
    """Runs that failed."""


def select(config: StudyConfig, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> list[RunConfig]:
    """The study's runs, or those of some arms (`action_mask`), sweep points (`action_mask+size=4`) or seeds.

    Raises `ConfigError` for an unknown arm or seed.
    """
    runs = config.runs()
    names = {name for run in runs for name in (run.arm, run.point_name)}
    for name in only:
        if name not in names:
            raise ConfigError(f"study {config.name!r} has no arm {name!r}{nearest(name, names)}")
    if unknown := [seed for seed in seeds if seed not in config.seed_list]:
        raise ConfigError(f"study {config.name!r} has no seed {unknown[0]} (seeds: {as_text(config.seed_list)})")
    wanted, asked = set(only) or names, set(seeds or config.seed_list)
    return [run for run in runs if wanted & {run.arm, run.point_name} and run.seed in asked]


def run_study(
    config: StudyConfig,
    *,
    only: Sequence[str] = (),
    seeds: Sequence[int] = (),
    cluster: RaySettings | None = None,
    force: bool = False,
    trainer: str = TRAINER,
    start_model: str = START_MODEL,
    display: Display | None = None,
) -> StudyResult:
    """Run the unfinished runs of a study.

    Args:
        config: The study.
        only: Arms or sweep points to run; empty: all.
        seeds: Seeds to run; empty: all.
        cluster: Where the runs execute; None: in this process, without Ray, one after the other.
        force: Accept a directory that holds the same study with another config.
        trainer: `module:function` that trains one run.
        start_model: `module:function` that returns the directory of the model to start from.
        display: Shows the progress.

    Raises:
        UserError: The config is wrong. Nothing has started.
        KeyboardInterrupt: The study was interrupted, and stopped cleanly.
    """
    runs = select(config, only, seeds)
    check_machine(config, cluster)
    check_study(config)
    with interruptible(), contextlib.ExitStack() as stack:
        shown = stack.enter_context(display or Display())
        shown.notes(_notes_on_models(config, runs))
        remote = cluster if cluster and cluster.address else None
        if remote and not begun(config):  # so that nothing is made of a study that cannot start
            stack.enter_context(running_ray(remote))
        study = stack.enter_context(open_study(config, force=force, note=shown.note))
        known = _present(runs, study)
        settle(study, runs, known, force=force, note=shown.note)
        todo = plan(study, runs, shown.note)
        tell_other_versions(study, todo.kept, shown.note)
        result = StudyResult(study.path, kept=[run.directory_name for run in todo.kept])
        if todo.pending:
            if remote:  # first, so that faults of the cluster are reported at once
                stack.enter_context(joined_ray(remote))
                _note_room(todo.pending, shown)
            check_pretraining(todo.pending)
            models = _models(todo.pending, study, load_function(start_model), shown)
            made = {key: path for key, path in models.items() if known[key] is None}
            if settle(study, runs, made, force=force, note=shown.note):
                todo = plan(study, runs, shown.note)
                result.kept = [run.directory_name for run in todo.kept]
            starts = [(run, models[model_key(run)]) for run in todo.pending]
            check_all_memory([] if remote else starts)
            check_lengths(starts)
            check_space(study.path, needed(starts, _at_once(cluster, len(starts))))
            shown.notes(time_lines(todo.pending, _at_once(cluster, len(starts))))
            shown.begin(len(starts))
            _execute(_jobs(study, todo.pending, trainer, models), cluster, result, shown)
    return result


def _execute(jobs: Sequence[Job], cluster: RaySettings | None, result: StudyResult, display: Display) -> None:
    """Execute the jobs in this process, on the cluster that is connected, or on a local Ray."""
    if cluster is None:
        _run_here(jobs, result, display)
    elif cluster.address:  # with versions: an autoscaler may start further nodes, which must match this one
        _RunScheduler([replace(job, versions=versions()) for job in jobs], cluster, result, display).run()
    else:
        with running_ray(cluster):
            _RunScheduler(jobs, cluster, result, display).run()


def _at_once(cluster: RaySettings | None, runs: int) -> int:
    """How many runs may train at a time."""
    here = 1 if cluster is None else cluster.cpus or os.cpu_count() or 1
    return runs if cluster and cluster.address else min(runs, here)


def _notes_on_models(config: StudyConfig, runs: Sequence[RunConfig]) -> list[str]:
    """What may surprise: idle organisms, worlds that the model has not met, folders called like a model of the hub."""
    from launch.run.models.start_model import chosen_folder  # imports torch and transformers

    notes = [
        idle_organisms(config.model, config.seed_list),
        *notes_on_worlds(runs),
        *(chosen_folder(run.model) for run in runs),
    ]
    return [line for line in dict.fromkeys(notes) if line]


def _present(runs: Sequence[RunConfig], study: StudyDirectory) -> dict[str, Path | None]:
    """The models of the runs that are on this machine already."""
    from launch.run.models.start_model import at_pin, present_model

    pins = read_pins(study.path)
    first = {model_key(run): run for run in runs}
    return {key: present_model(at_pin(run.model, pins)) for key, run in first.items()}


def _models(
    runs: Sequence[RunConfig], study: StudyDirectory, make: Callable[..., Path], display: Display
) -> dict[str, Path]:
    """Find, fetch or build the models that the runs start from, one after the other."""
    from launch.run.models.start_model import at_pin, on_hub

    first = {model_key(run): run for run in reversed(runs)}
    several = len(first) > 1
    models = {}
    for key, run in first.items():
        source = at_pin(run.model, read_pins(study.path))
        models[key] = _model(source, make, display, run.subject if several else "")
        if (hub := on_hub(run.model)) is not None and (commit := revision_of(models[key])):
            pin(study.path, hub, commit)
    return models


def _jobs(study: StudyDirectory, runs: Sequence[RunConfig], trainer: str, models: Mapping[str, Path]) -> list[Job]:
    """Describe each run for its worker."""
    with disk_errors(study.path):
        _note_models(study, models)
    marker = marker_of(study.path / "study.json")
    return [
        Job(
            run=run.model_copy(update={"commit": revision_of(models[model_key(run)])}),
            directory=study.run(run).path,
            log=study.log(run),
            model=models[model_key(run)],
            trainer=trainer,
            search_path=(os.getcwd(), *(entry for entry in sys.path if entry)),
            marker=marker,
            model_hashes=hashes(models[model_key(run)]),
        )
        for run in runs
    ]


def _model(source: ModelSource, make: Callable[..., Path], display: Display, name: str) -> Path:
    """Find, fetch or build one model. Where there are several, its name is shown before each stage."""

    def stage(done: int, total: int, what: str) -> None:
        display.stage(done, total, f"{name}: {what}" if name else what)

    with disk_errors(Path("the organism")):
        return Path(make(source, stage)).absolute()


def _note_models(study: StudyDirectory, models: Mapping[str, Path]) -> None:
    """Record the name and config of each start model, one file per model."""
    folder = make_directory(study.path / "model")
    for config, model in models.items():
        write_json(folder / f"{model.name}.json", {"name": model.name, "config": without_places(json.loads(config))})


def _run_here(jobs: Sequence[Job], result: StudyResult, display: Display) -> None:
    for job in jobs:
        display.start(job.name, updates_known(job.run.stages, job.run.train), updates_done(job))

        def report(update: int, row: dict[str, Any], name: str = job.name) -> None:
            display.update(name, update + 1, row)
            display.heartbeat()

        try:
            train(job, job.model, RunDirectory(job.directory), report)
        except Exception as error:
            _fail(job, failure(error), result, display)
        else:
            _finish(job, result, display)


def updates_done(job: Job) -> int:
    """The update after which a run goes on: that of its newest saved state; 0 for a new one."""
    directory = RunDirectory(job.directory)
    resumes = directory.status() == "partial"
    return (Checkpoints.of(directory, job.run).newest() or 0) if resumes else 0


def _finish(job: Job, result: StudyResult, display: Display) -> None:
    """Book a finished run, and tell where its evaluation has lost episodes and its training taught nothing."""
    result.finished.append(job.name)
    display.end(job.name, ok=True)
    directory = RunDirectory(job.directory)
    attrition = (directory.result() or {}).get("attrition", {})
    for line in flagged(attrition.get("evaluation", [])):
        display.note(f"{job.name}: do not trust {line}", warning=True)
    for said in weak_signals(directory.rows()).values():
        display.note(f"warning: {job.name}: {said}", warning=True)


def _fail(job: Job, task: TaskResult, result: StudyResult, display: Display) -> None:
    log_line(job.log, task.details or task.error)
    if task.disk_full:
        raise DiskFullError(f"{job.name}: {task.error}\nfinished runs are intact; free some space and run it again")
    result.failed.append(Failure(job.name, task.error, job.log))
    with contextlib.suppress(OSError, UserError):
        RunDirectory(job.directory).fail(task.error)
    display.end(job.name, ok=False)
    display.note(f"{job.name}: failed: {task.error} (log: {job.log})")


class _RunScheduler:
    """Submits runs to Ray and collects their results. A run whose worker dies or raises gets a second try."""

    def __init__(self, jobs: Sequence[Job], cluster: RaySettings, result: StudyResult, display: Display) -> None:
        self.queue = deque((job, 1) for job in jobs)
        self.active: dict[Any, tuple[Job, int, PlacementGroup | None]] = {}
        self.result, self.display = result, display
        # On a cluster all runs are submitted at once, so that an autoscaler sees the demand.
        self.slots = len(jobs) if cluster.address else _parallel_runs([job.run for job in jobs])
        self.progress = ProgressActor.remote()  # type: ignore[attr-defined]
        remote = len(ray.nodes()) > 1 or bool(cluster.address)
        self.shipped = {
            model: [ray.put(archive_model(model))] if remote else [] for model in {job.model for job in jobs}
        }

    def run(self) -> None:
        """Execute all runs. On an interrupt, the active ones are cancelled."""
        try:
            while self.queue or self.active:
                self._submit()
                ready, _ = ray.wait(list(self.active), num_returns=1, timeout=POLL)
                for reference in ready:
                    job, attempt, group = self.active.pop(reference)
                    task = self._task_result(reference)
                    release(group)
                    self._record(job, attempt, task)
                self._show_progress()
        finally:
            for reference, (_, _, group) in self.active.items():
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)
                    release(group)

    def _submit(self) -> None:
        while self.queue and len(self.active) < self.slots:
            job, attempt = self.queue.popleft()
            self.display.start(job.name, updates_known(job.run.stages, job.run.train), updates_done(job))
            group, options = reserve(job.run)
            reference = execute.options(**options).remote(job, self.progress, self.shipped[job.model])
            self.active[reference] = (job, attempt, group)

    @staticmethod
    def _task_result(reference: Any) -> TaskResult:
        try:
            task: TaskResult = ray.get(reference)
            return task
        except ray.exceptions.WorkerCrashedError:
            return TaskResult("its worker process died (killed, out of memory, or a crash in native code)", retry=True)
        except ray.exceptions.RayError as error:
            return TaskResult(str(error).partition("\n")[0], str(error), retry=True)

    def _record(self, job: Job, attempt: int, task: TaskResult) -> None:
        """Book a finished run, queue a failed one for its second try, or book the failure."""
        if not task.error:
            if task.archive:
                receive(task.archive, job.directory)
            _finish(job, self.result, self.display)
        elif task.retry and not task.disk_full and attempt < ATTEMPTS:
            log_line(job.log, task.details or task.error)
            self.display.end(job.name, ok=False, retry=True)
            saved = Checkpoints.of(RunDirectory(job.directory), job.run).newest()
            since = "from the start" if saved is None else f"from the state after update {saved}"
            self.display.note(f"{job.name}: {task.error}; trying once more, {since}")
            self.queue.appendleft((job, attempt + 1))
        else:
            _fail(job, replace(task, details=task.details or task.error), self.result, self.display)

    def _show_progress(self) -> None:
        """Show the latest progress of the active runs."""
        with contextlib.suppress(ray.exceptions.RayError):
            for name, (done, row) in ray.get(self.progress.take.remote(), timeout=5).items():
                self.display.update(name, done, row)
        self.display.heartbeat()


def _parallel_runs(runs: Sequence[RunConfig]) -> int:
    """How many runs fit into the local Ray at a time. Raises `PlacementError` if it is too small for one of them."""
    nodes = living()
    check_room(runs, nodes)
    return at_once(runs, nodes)


def _note_room(runs: Sequence[RunConfig], display: Display) -> None:
    """Show the first run that has to wait until the cluster has grown, as it may by itself."""
    nodes = living()
    for run in runs:
        if why := shortage(needs(run, nodes), nodes):
            display.note(f"{run.directory_name} waits until the cluster has grown: {why}")
            return
