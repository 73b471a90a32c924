"""The monitors of a run: at its training episodes, and at the evaluation, where they are compared with ground truth."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from envs.episode import Episode
from envs.limits import NoAnswerError
from envs.text import message_of
from launch.errors import ConfigError
from launch.run.timing import slow
from launch.storage.resume import log_to_stderr
from shaping.audits.row import Row
from shaping.monitors.base import Monitor, MonitorError, require_held_out
from shaping.monitors.reachable import spent_names
from shaping.monitors.turn_scores import turn_scores
from shaping.monitors.validate import validate
from shaping.sampling.watchdog import watched

T = TypeVar("T")

QUANTITIES = ("recall", "false_positive_rate", "auroc")
FLAGGED = 0.5
"""A turn with at least this score counts as flagged."""


def check_held_out(monitors: Sequence[Monitor], plugins: Iterable[object]) -> None:
    """Raises `ConfigError` if a monitor that measures is trained against by one of the interventions and rewards."""
    try:
        require_held_out(monitors, spent_names(plugins, monitors))
    except MonitorError as error:
        raise ConfigError(f"eval.monitors: {error}") from None


# During training ------------------------------------------------------------------------------------------------------


class TrainingMonitors:
    """Lets the cheap monitors of a run read its training episodes, in a thread beside the stages that follow.

    A monitor that fails, or takes more than `limit` seconds, is reported once and off for the rest of the run; training
    goes on.
    """

    def __init__(
        self, monitors: Sequence[Monitor], log: Callable[[str], None] = log_to_stderr, limit: float = 600.0
    ) -> None:
        self._limit = limit
        self._monitors = [monitor for monitor in monitors if monitor.cheap]
        self._off: set[str] = set()
        self._log = log

    def start(self, episodes: Sequence[Episode]) -> PendingReadings:
        """Start reading; `finish` waits for the result."""
        monitors = [m for m in self._monitors if m.name not in self._off]
        return PendingReadings(monitors, episodes, self._limit, self._log)

    def finish(self, pending: PendingReadings, seconds: dict[str, float]) -> Row:
        """The metrics of all monitors that are not off. `seconds/read` is the time that the thread took."""
        pending.join()
        for name, error in pending.failures.items():
            self._off.add(name)
            why = f"{type(error).__name__}: {message_of(error)}"
            self._log(
                f"monitor {name!r} failed; it reads no more training episodes of this run, training goes on: {why}"
            )
        if pending.monitors:
            seconds["seconds/read"] = round(pending.seconds, 4)
        return pending.metrics

    def state_dict(self) -> dict[str, Any]:
        """JSON-serialisable: a resumed run must not ask again a monitor that has failed."""
        return {"off": sorted(self._off)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._off = set(state.get("off", ()))


class PendingReadings:
    """The readings of one update's episodes, which a daemon thread takes: one that hangs does not keep a process up."""

    def __init__(
        self, monitors: Sequence[Monitor], episodes: Sequence[Episode], limit: float, log: Callable[[str], None]
    ) -> None:
        self.monitors = monitors
        self._limit, self._log = limit, log
        self.metrics = Row()
        self.failures: dict[str, BaseException] = {}
        self.seconds = 0.0
        self._episodes = episodes
        self._thread = threading.Thread(target=self._read, name="monitors", daemon=True)
        if monitors:
            self._thread.start()

    def join(self) -> None:
        if self.monitors:
            self._thread.join()

    def _read(self) -> None:
        start = time.perf_counter()
        for monitor in self.monitors:
            try:
                measured = _in_time(monitor, self._limit, partial(training_metrics, monitor, self._episodes), self._log)
                self.metrics.add(f"the monitor {monitor.name!r}", measured)
            except BaseException as error:  # in a thread of its own: no signal of the user's comes here
                self.failures[monitor.name] = error
        self.seconds = time.perf_counter() - start


def _in_time(monitor: Monitor, limit: float, read: Callable[[], T], log: Callable[[str], None] = log_to_stderr) -> T:
    """The value of `read()`, which `monitor` reads for. Raises `MonitorError` if it takes more than `limit` seconds."""
    what = f"monitor {monitor.name!r}"
    try:
        return watched(what, limit, read, slow(what, log))
    except NoAnswerError:
        raise MonitorError(f"{what} has not read its episodes within {limit:g} s (eval.monitor_timeout)") from None


def training_metrics(monitor: Monitor, episodes: Sequence[Episode]) -> dict[str, float]:
    """`monitor/<name>/<trait>/score` and `.../flagged_episodes` for every trait that the monitor may suspect.

    `score`: mean over turns of the highest score, 0 where it read nothing. `flagged_episodes`: share of the episodes
    with a turn of at least `FLAGGED`.
    """
    read = [turn_scores(monitor, episode) for episode in episodes]
    row: dict[str, float] = {}
    for trait in sorted({*monitor.suspects(), *(trait for scores in read for trait in scores)}):
        turns = [scores.get(trait, np.zeros(len(e.turns))) for scores, e in zip(read, episodes, strict=True)]
        prefix = f"monitor/{monitor.name}/{trait}"
        row[f"{prefix}/score"] = float(np.concatenate(turns).mean())
        row[f"{prefix}/flagged_episodes"] = float(np.mean([(own >= FLAGGED).any() for own in turns]))
    return row


# At the evaluation ----------------------------------------------------------------------------------------------------


def evaluation_metrics(
    monitors: Sequence[Monitor], episodes: Sequence[Episode], limit: float = 600.0
) -> dict[str, float]:
    """`monitor.<name>.<trait>.<quantity>` for every trait a monitor reads, over all evaluation conditions.

    A quantity that cannot be computed is left out, e.g. where there was no turn in which the trait was possible. Raises
    `MonitorError` if a monitor reports a turn that was not played, or takes more than `limit` seconds.
    """
    sound = [e for e in episodes if not e.status.is_error]
    found: dict[str, float] = {}
    for monitor in monitors:
        found |= _in_time(monitor, limit, partial(_measured, monitor, sound))
    return found


def _measured(monitor: Monitor, episodes: Sequence[Episode]) -> dict[str, float]:
    named = getattr(monitor, "trait", None)
    traits = [named] if named else sorted({trait for e in episodes for trait in turn_scores(monitor, e)})
    found: dict[str, float] = {}
    for trait in traits:
        measured = validate(monitor, episodes, trait)
        found |= {f"monitor.{monitor.name}.{trait}.{q}": measured[q] for q in QUANTITIES if q in measured}
    return found
