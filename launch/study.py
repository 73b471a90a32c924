"""A study: every arm, seed and cell as one Ray task, as many at once as there are cores, resumable after anything."""

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

from launch.config.study import RunConfig, StudyConfig
from launch.distributed.local import RaySettings, interruptible, running_ray
from launch.distributed.placement import NoRoomError, bundles, placement, release, reserve, shortage
from launch.distributed.run_worker import (
    Job,
    ProgressActor,
    TaskResult,
    archive,
    execute,
    failure,
    load_function,
    log_line,
    marker_of,
    receive,
    train,
)
from launch.errors import ConfigError, DiskFullError, nearest
from launch.preflight import check_plugins
from launch.storage.checkpoint import Checkpoints
from launch.storage.rundir import RunDirectory, check_space, disk_errors, write_json
from launch.storage.studydir import StudyDirectory, open_study, plan
from launch.storage.versions import versions
from launch.tracking.progress import Display

TRAINER = "launch.run.trainer:train"
START_MODEL = "launch.run.start_model:start_model"
ATTEMPTS = 2
POLL = 0.5
"""Seconds between looks at the progress."""
RUN_BYTES = 8_000_000
"""Metrics, episodes and logs of one run, generously; its checkpoint comes on top."""


@dataclass(frozen=True)
class Failure:
    """A run that failed for good."""

    name: str
    message: str
    log: Path


@dataclass
class StudyResult:
    """What came of a study. `kept` were finished before."""

    directory: Path
    finished: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)


def select(config: StudyConfig, only: Sequence[str] = (), seed: int | None = None) -> list[RunConfig]:
    """The study's runs, or those of some arms (`action_mask`) or cells (`action_mask+honest_path=open`)."""
    runs = config.runs()
    names = {name for run in runs for name in (run.arm, run.point_name)}
    for name in only:
        if name not in names:
            raise ConfigError(f"study {config.name!r} has no arm {name!r}{nearest(name, names)}")
    if seed is not None and seed not in config.seed_list:
        raise ConfigError(f"study {config.name!r} has no seed {seed} (seeds: {config.seed_list})")
    wanted = set(only) or names
    return [run for run in runs if wanted & {run.arm, run.point_name} and seed in (None, run.seed)]


def run_study(
    config: StudyConfig,
    *,
    only: Sequence[str] = (),
    seed: int | None = None,
    cluster: RaySettings | None = None,
    force: bool = False,
    trainer: str = TRAINER,
    start_model: str = START_MODEL,
    display: Display | None = None,
) -> StudyResult:
    """Run what is not finished yet. `cluster=None` trains here, without Ray, one run after the other.

    `trainer` and `start_model` are `module:function`. Raises `UserError` before anything starts if the config is wrong,
    and `KeyboardInterrupt` after a clean stop.
    """
    runs = select(config, only, seed)
    check_plugins(config.runs())
    with interruptible(), contextlib.ExitStack() as stack:
        shown = stack.enter_context(display or Display())
        study = stack.enter_context(open_study(config, force=force, note=shown.note))
        todo = plan(study, runs, shown.note)
        result = StudyResult(study.path, kept=[run.directory_name for run in todo.kept])
        if todo.pending:
            check_space(study.path, RUN_BYTES * len(todo.pending))
            if cluster is not None and cluster.address:  # first: what is wrong with a cluster is told at once
                stack.enter_context(running_ray(cluster))
            jobs = _jobs(study, todo.pending, trainer, load_function(start_model), shown)
            shown.begin(len(jobs))
            if cluster is None:
                _run_here(jobs, result, shown)
            elif cluster.address:  # nodes that an autoscaler starts later are compared with this one, too
                _RunScheduler([replace(job, versions=versions()) for job in jobs], cluster, result, shown).work()
            else:
                with running_ray(cluster):
                    _RunScheduler(jobs, cluster, result, shown).work()
    return result


def _jobs(
    study: StudyDirectory, runs: Sequence[RunConfig], trainer: str, make: Callable[..., Path], display: Display
) -> list[Job]:
    """Find or make the models that the runs start from, and say what each worker has to do."""
    models: dict[str, Path] = {}
    for run in runs:
        key = _key(run)
        if key not in models:
            models[key] = _model(run, make, display)
    sizes = {key: sum(f.stat().st_size for f in model.rglob("*") if f.is_file()) for key, model in models.items()}
    check_space(study.path, sum(RUN_BYTES + sizes[_key(run)] for run in runs))
    with disk_errors(study.path):
        _note_models(study, models)
    marker = marker_of(study.path / "study.json")
    return [
        Job(
            run=run,
            directory=study.run(run).path,
            log=study.log(run),
            model=models[_key(run)],
            trainer=trainer,
            search_path=(os.getcwd(), *(place for place in sys.path if place)),
            marker=marker,
        )
        for run in runs
    ]


def _key(run: RunConfig) -> str:
    return json.dumps(run.model_dump(mode="json")["model"], sort_keys=True)


def _model(run: RunConfig, make: Callable[..., Path], display: Display) -> Path:
    with disk_errors(Path("the organism")):
        return Path(make(run.model, display.stage)).absolute()


def _note_models(study: StudyDirectory, models: Mapping[str, Path]) -> None:
    """Which models the runs started from: config and path, one file per model."""
    folder = study.path / "model"
    folder.mkdir(exist_ok=True)
    for config, model in models.items():
        write_json(folder / f"{model.name}.json", {"path": str(model), "config": json.loads(config)})


def _run_here(jobs: Sequence[Job], result: StudyResult, display: Display) -> None:
    for job in jobs:
        display.start(job.name, job.run.train.updates)

        def report(update: int, row: dict[str, Any], name: str = job.name) -> None:
            display.update(name, update + 1, row)
            display.heartbeat()

        try:
            train(job, job.model, RunDirectory(job.directory), report)
        except Exception as error:
            _fail(job, failure(error), result, display)
        else:
            result.finished.append(job.name)
            display.end(job.name, ok=True)


def _fail(job: Job, outcome: TaskResult, result: StudyResult, display: Display) -> None:
    log_line(job.log, outcome.details or outcome.error)
    if outcome.disk_full:
        raise DiskFullError(f"{job.name}: {outcome.error}\nfinished runs are intact; free some space and run it again")
    result.failed.append(Failure(job.name, outcome.error, job.log))
    display.end(job.name, ok=False)
    display.note(f"{job.name}: failed: {outcome.error} (log: {job.log})")


class _RunScheduler:
    """The runs in flight. A run whose worker dies or raises gets a second try, the others go on."""

    def __init__(self, jobs: Sequence[Job], cluster: RaySettings, result: StudyResult, display: Display) -> None:
        self.queue = deque((job, 1) for job in jobs)
        self.active: dict[Any, tuple[Job, int, PlacementGroup | None]] = {}
        self.result, self.display = result, display
        # On a cluster everything is submitted at once, so that an autoscaler sees the demand.
        self.slots = len(jobs) if cluster.address else _fitting([job.run for job in jobs])
        self.progress = ProgressActor.remote()  # type: ignore[attr-defined]
        elsewhere = len(ray.nodes()) > 1 or bool(cluster.address)
        self.shipped = {model: [ray.put(archive(model))] if elsewhere else [] for model in {job.model for job in jobs}}

    def work(self) -> None:
        try:
            while self.queue or self.active:
                self._submit()
                ready, _ = ray.wait(list(self.active), num_returns=1, timeout=POLL)
                for reference in ready:
                    job, attempt, room = self.active.pop(reference)
                    outcome = self._outcome(reference)
                    release(room)
                    self._settle(job, attempt, outcome)
                self._look()
        finally:
            for reference, (_, _, room) in self.active.items():
                with contextlib.suppress(Exception):
                    ray.cancel(reference, force=True)
                    release(room)

    def _submit(self) -> None:
        while self.queue and len(self.active) < self.slots:
            job, attempt = self.queue.popleft()
            self.display.start(job.name, job.run.train.updates)
            room = reserve(job.run)
            at = {} if room is None else {"scheduling_strategy": placement(room, 0)}
            reference = execute.options(**at).remote(job, self.progress, self.shipped[job.model])
            self.active[reference] = (job, attempt, room)

    @staticmethod
    def _outcome(reference: Any) -> TaskResult:
        try:
            outcome: TaskResult = ray.get(reference)
            return outcome
        except ray.exceptions.WorkerCrashedError:
            return TaskResult("its worker process died (killed, out of memory, or a crash in native code)", retry=True)
        except ray.exceptions.RayError as error:
            return TaskResult(str(error).partition("\n")[0], str(error), retry=True)

    def _settle(self, job: Job, attempt: int, outcome: TaskResult) -> None:
        if not outcome.error:
            if outcome.archive:
                receive(outcome.archive, job.directory)
            self.result.finished.append(job.name)
            self.display.end(job.name, ok=True)
        elif outcome.retry and not outcome.disk_full and attempt < ATTEMPTS:
            log_line(job.log, outcome.details or outcome.error)
            self.display.end(job.name, ok=False, retry=True)
            saved = Checkpoints.of(RunDirectory(job.directory), job.run).newest()
            since = "from the start" if saved is None else f"from the state after update {saved}"
            self.display.note(f"{job.name}: {outcome.error}; trying once more, {since}")
            self.queue.appendleft((job, attempt + 1))
        else:
            _fail(job, replace(outcome, details=outcome.details or outcome.error), self.result, self.display)

    def _look(self) -> None:
        """Show what the running runs have reported."""
        with contextlib.suppress(ray.exceptions.RayError):
            for name, (done, row) in ray.get(self.progress.take.remote(), timeout=5).items():
                self.display.update(name, done, row)
        self.display.heartbeat()


def _fitting(runs: Sequence[RunConfig]) -> int:
    """How many runs our own Ray has room for at a time. Raises `NoRoomError` where it has none for one of them."""
    for run in runs:
        if missing := shortage(bundles(run)):
            raise NoRoomError(f"no room for {run.directory_name}: {missing}")
    largest = max((sum(bundle["CPU"] for bundle in bundles(run)) for run in runs), default=1.0)
    return max(1, int(ray.cluster_resources().get("CPU", 1) / largest))
