"""Runs shown while they train, in trackers of the user's choice. What metrics.jsonl holds is what a tracker is sent.

A tracker is an onlooker: whatever goes wrong in one is told once, it is left alone from then on, and training goes on.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from launch.config.study import PluginSpec, RunConfig
from launch.errors import ConfigError, UserError, nearest
from launch.storage.rundir import RunDirectory

IDENTITY = "tracking.json"
"""In the folder of training states: gone when the run is finished or started afresh, and so is the trackers' run."""

BUILT_IN = {
    "tensorboard": "launch.tracking.trackers:TensorBoard",
    "wandb": "launch.tracking.trackers:WandB",
    "trackio": "launch.tracking.trackers:Trackio",
}

Trainer = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run when it starts, or goes on."""

    study: str
    name: str
    """`<arm>[+axis=value...]/seed-<k>`, unique within the study."""
    id: str
    """The same when the run goes on after a kill, another one when it is started afresh."""
    config: Mapping[str, Any]
    folder: Path
    """For what the tracker writes: `<study>/tracking`, outside of what the run is compared by."""
    first: int
    """The update that will be logged first; above 0 the run goes on, and later rows of an earlier try are void."""


class Tracker(Protocol):
    """A place that shows runs. Built with the fields that the config gives it; any method may raise."""

    def start(self, run: TrackedRun) -> None: ...

    def log(self, row: Mapping[str, Any], step: int) -> None:
        """A row of metrics.jsonl; steps rise."""

    def finish(self, result: Mapping[str, Any] | None) -> None:
        """The run is over: its result, or None if it stopped before the end and may go on later."""


def find_tracker(spec: PluginSpec, where: str) -> type[Tracker]:
    """The class of a tracker. `where` (a dotted key) goes into the message if there is none."""
    path = BUILT_IN.get(spec.use, spec.use)
    if ":" not in path:
        raise ConfigError(
            f"{where}: unknown tracker {spec.use!r}{nearest(spec.use, BUILT_IN)}; your own is package.module:Class"
        )
    if spec.use in BUILT_IN and find_spec(spec.use) is None:
        raise UserError(f"{where}: {spec.use} is not installed; pip install 'shaping[{spec.use}]', or take it out")
    from launch.config.plugins import import_class

    found = import_class(path, f"{where}: tracker")
    missing = [name for name in ("start", "log", "finish") if not callable(getattr(found, name, None))]
    if missing:
        raise UserError(
            f"{where}: {path} is no tracker: it has no {', '.join(missing)}() (launch/tracking/tracking.py)"
        )
    return found


def check_tracking(run: RunConfig) -> None:
    """Before anything starts: every tracker of the config is there and takes its fields. None is started."""
    for index, spec in enumerate(run.tracking):
        _build(spec, f"tracking.{index}")


def _build(spec: PluginSpec, where: str) -> Tracker:
    found = find_tracker(spec, where)
    try:
        return found(**spec.fields)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} ({spec.use}): {error}") from error


class Onlookers:
    """The trackers of one run. Nothing that happens in them reaches the caller; one that fails is left out."""

    def __init__(self, run: RunConfig, directory: RunDirectory, tell: Callable[[str], None]) -> None:
        self._run, self._directory, self._tell = run, directory, tell
        self._specs = {f"tracking.{index}": spec for index, spec in enumerate(run.tracking)}
        self._trackers: dict[str, Tracker] = {}
        self._last: int | None = None

    def log(self, update: int, row: Mapping[str, Any]) -> None:
        if self._last is not None and update <= self._last:  # the run lost a part of itself, and went back to a state
            self._each(lambda tracker: tracker.finish(None))
            self._last = None
        if self._last is None:
            self._start(update)
        self._last = update
        self._each(lambda tracker: tracker.log(row, update))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if self._last is None and result is not None:  # nothing was left to train
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
            with self._unharmed(where):
                tracker = _build(spec, where)
                tracker.start(run)
                self._trackers[where] = tracker

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for where, tracker in list(self._trackers.items()):
            with self._unharmed(where):
                call(tracker)

    @contextlib.contextmanager
    def _unharmed(self, where: str) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            spec = self._specs.pop(where)
            self._trackers.pop(where, None)
            why = f"{type(error).__name__}: {error}"
            self._tell(f"{where} ({spec.use}) failed and is off from here on, training goes on: {why}")


def _identity(directory: RunDirectory) -> str:
    """The id under which the run is tracked, from its first logged update until it is finished or wiped."""
    path, new = directory.state / IDENTITY, uuid.uuid4().hex[:16]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(path.read_text(encoding="utf-8"))["id"])
    with contextlib.suppress(OSError):  # a full disk: training will say so
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"id": new}), encoding="utf-8")
    return new


def _folder(run: RunConfig, directory: RunDirectory) -> Path:
    path = directory.path.absolute()
    inside = path.as_posix().endswith(f"/runs/{run.directory_name}")
    return (path.parents[2] if inside else path.parent) / "tracking"


def tracked(train: Trainer) -> Trainer:
    """Let the run's trackers look on while `train(run, model, directory, on_update)` trains it."""

    @functools.wraps(train)
    def looked_on(
        run: RunConfig, model: Path, directory: RunDirectory, on_update: Callable[..., None] = lambda *_: None
    ) -> dict[str, Any]:
        if not run.tracking:
            return train(run, model, directory, on_update)
        onlookers = Onlookers(run, directory, lambda text: print(text, file=sys.stderr, flush=True))
        result: dict[str, Any] | None = None

        def report(update: int, row: dict[str, Any]) -> None:
            onlookers.log(update, row)
            on_update(update, row)

        try:
            result = train(run, model, directory, report)
            return result
        finally:
            onlookers.finish(result)

    return looked_on
