"""Trackers show runs while they train. A tracker gets the rows of metrics.jsonl.

If a tracker fails, the error is logged once, the tracker is switched off, and training continues.
"""

from __future__ import annotations

import contextlib
import functools
import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from launch.config.study import PluginSpec, RunConfig
from launch.errors import ConfigError, UserError, nearest
from launch.storage.files import make_directory, safe, write_text
from launch.storage.rundir import RunDirectory
from launch.terminal import say

IDENTITY = "tracking.json"
"""File with the run's id. It lies beside the training states, so a restarted run gets a new id."""

BUILT_IN = {
    "tensorboard": "launch.tracking.trackers:TensorBoard",
    "wandb": "launch.tracking.trackers:WandB",
    "trackio": "launch.tracking.trackers:Trackio",
}

Trainer = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class TrackedRun:
    """A run as a tracker sees it when the run starts or resumes."""

    study: str
    """Name of the study."""
    name: str
    """`<arm>[+axis=value...]/seed-<k>`, unique within the study."""
    id: str
    """Kept when the run resumes after a kill; new when it restarts from the beginning."""
    config: Mapping[str, Any]
    """The run's config."""
    folder: Path
    """Folder for the tracker's files: `<study>/tracking`, outside the run directory."""
    first: int
    """The first update that will be logged. Above 0 the run resumes, and earlier rows from `first` on are void."""


class Tracker(Protocol):
    """Shows runs. It is built with the fields of its entry in the config. Any method may raise."""

    def start(self, run: TrackedRun) -> None:
        """Called before the first row, also when a run resumes."""

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """Called with each row of metrics.jsonl, in rising steps."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """Called last, with the result, or with None if the run stopped early and may resume later."""


def find_tracker(spec: PluginSpec, where: str) -> type[Tracker]:
    """The class of a tracker. Raises `UserError` that names `where`, the dotted key of the config."""
    path = BUILT_IN.get(spec.use, spec.use)
    if ":" not in path:
        raise ConfigError(
            f"{where}: unknown tracker {spec.use!r}{nearest(spec.use, BUILT_IN)}; write one of your own as "
            "package.module:Class"
        )
    if spec.use in BUILT_IN and find_spec(spec.use) is None:
        raise UserError(f"{where}: {spec.use} is not installed; pip install 'shaping[{spec.use}]', or remove it")
    from launch.config.plugins import import_class

    tracker: type[Tracker] = import_class(path, f"{where}: tracker")
    missing = [name for name in ("start", "log", "finish") if not callable(getattr(tracker, name, None))]
    if missing:
        raise UserError(
            f"{where}: {path} is no tracker: it has no {', '.join(missing)}() (launch/tracking/tracking.py)"
        )
    return tracker


def check_tracking(run: RunConfig) -> None:
    """Check that every tracker of the config exists and accepts its fields. None is started."""
    for index, spec in enumerate(run.tracking):
        _build(spec, f"tracking.{index}")


def _build(spec: PluginSpec, where: str) -> Tracker:
    tracker = find_tracker(spec, where)
    try:
        return tracker(**spec.fields)
    except UserError:
        raise
    except Exception as error:
        said = str(error) if isinstance(error, (TypeError, ValueError)) else f"{type(error).__name__}: {error}"
        raise ConfigError(f"{where} ({spec.use}): {said}") from error


class RunTrackers:
    """The trackers of one run. Errors go to `log_error`, never to the caller; a failed tracker is switched off."""

    def __init__(self, run: RunConfig, directory: RunDirectory, log_error: Callable[[str], None]) -> None:
        self._run, self._directory, self._log_error = run, directory, log_error
        self._specs = {f"tracking.{index}": spec for index, spec in enumerate(run.tracking)}
        self._trackers: dict[str, Tracker] = {}
        self._last: int | None = None

    def log(self, update: int, row: Mapping[str, Any]) -> None:
        """Send a row to all trackers, and start them before the first one."""
        if self._last is not None and update <= self._last:  # the run has returned to an earlier state
            self._each(lambda tracker: tracker.finish(None))
            self._last = None
        if self._last is None:
            self._start(update)
        self._last = update
        self._each(lambda tracker: tracker.log(row, update))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """End all trackers; `result` is None if the run stopped early."""
        if self._last is None and result is not None:  # no update was left
            self._start(self._run.train.updates)
        self._each(lambda tracker: tracker.finish(result))

    def _start(self, first: int) -> None:
        run = TrackedRun(
            study=self._run.study,
            name=self._run.directory_name,
            id=_identity(self._directory),
            config=self._run.model_dump(mode="json"),
            folder=_folder(self._run, self._directory),
            first=first,
        )
        self._trackers = {}
        for where, spec in list(self._specs.items()):
            with self._isolated(where):
                for path in (run.folder, *run.folder.glob("*")):
                    safe(path)
                tracker = _build(spec, where)
                tracker.start(run)
                self._trackers[where] = tracker

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for where, tracker in list(self._trackers.items()):
            with self._isolated(where):
                call(tracker)

    @contextlib.contextmanager
    def _isolated(self, where: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            spec = self._specs.pop(where)
            self._trackers.pop(where, None)
            self._log_error(
                f"{where} ({spec.use}) failed and is switched off, training continues: {type(error).__name__}: {error}"
            )


def _identity(directory: RunDirectory) -> str:
    """The run's id for trackers. It is kept from the first logged update until the run is finished or wiped."""
    path, new = directory.state / IDENTITY, uuid.uuid4().hex[:16]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    with contextlib.suppress(OSError):  # a full disk: training raises its own error
        make_directory(path.parent)
        write_text(path, json.dumps({"id": new}))
    return new


def _folder(run: RunConfig, directory: RunDirectory) -> Path:
    path = directory.path.absolute()
    inside = path.as_posix().endswith(f"/runs/{run.directory_name}")
    return (path.parents[2] if inside else path.parent) / "tracking"


def tracked(train: Trainer) -> Trainer:
    """Decorate `train(run, model, directory, on_update)`, so that the run's trackers get its rows and its result."""

    @functools.wraps(train)
    def with_trackers(
        run: RunConfig, model: Path, directory: RunDirectory, on_update: Callable[..., None] = lambda *_: None
    ) -> dict[str, Any]:
        if not run.tracking:
            return train(run, model, directory, on_update)
        trackers = RunTrackers(run, directory, lambda text: say(text, err=True))
        result: dict[str, Any] | None = None

        def report(update: int, row: dict[str, Any]) -> None:
            trackers.log(update, row)
            on_update(update, row)

        try:
            result = train(run, model, directory, report)
            return result
        finally:
            trackers.finish(result)

    return with_trackers
