"""The monitors of a run: at its training episodes, and at the evaluation, where they are compared with ground truth."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

import numpy as np

from envs.episode import Episode
from envs.limits import NoAnswerError
from envs.text import message_of
from launch.errors import ConfigError
from launch.run.evaluation.alarms import FLAGGED, AlarmPolicy, with_alarms
from launch.run.evaluation.hiding import caught_metrics, reasoning_metrics
from launch.run.timing import slow
from launch.storage.resume import log_to_stderr
from shaping.audits.row import Row
from shaping.monitors.base import Monitor, MonitorError, require_held_out
from shaping.monitors.reachable import spent_names
from shaping.monitors.read import EpisodesRead, read_all
from shaping.monitors.records import MonitorRecord, episode_id, version_of
from shaping.monitors.validation.turns import measured
from shaping.sampling.watchdog import watched

T = TypeVar("T")

QUANTITIES = ("recall", "false_positive_rate", "auroc")


def check_held_out(monitors: Sequence[Monitor], plugins: Iterable[object]) -> None:
    """Raises `ConfigError` if a monitor that measures is trained against by one of the interventions and rewards."""
    try:
        require_held_out(monitors, spent_names(plugins, monitors))
    except MonitorError as error:
        raise ConfigError(f"eval.monitors: {error}") from None


# During training ------------------------------------------------------------------------------------------------------


class TrainingMonitors:
    """Lets the cheap monitors of a run read its training episodes, in a thread beside the stages that follow.

    An episode at which a monitor fails has no reading of it, and is counted. A monitor that fails at all episodes of an
    update, or takes more than `limit` seconds, is off for the rest of the run. Training goes on, and the log names it.
    """

    def __init__(
        self,
        monitors: Sequence[Monitor],
        log: Callable[[str], None] = log_to_stderr,
        limit: float = 600.0,
        policy: AlarmPolicy | None = None,
    ) -> None:
        self.policy = policy
        self.failed: Counter[str] = Counter()
        """Name of a monitor -> episodes at which it failed."""
        self._limit = limit
        self._monitors = [monitor for monitor in monitors if monitor.cheap]
        self._versions = {monitor.name: version_of(monitor) for monitor in self._monitors}
        self._off: set[str] = set()
        self._told: set[tuple[str, str]] = set()
        self._log = log

    def start(self, episodes: Sequence[Episode]) -> PendingReadings:
        """Start reading; `finish` waits for the result."""
        monitors = [m for m in self._monitors if m.name not in self._off]
        return PendingReadings(monitors, episodes, self._limit, self._log, self._versions, self.policy)

    def decides(self, consequence: str) -> bool:
        """Does an alarm of one of the monitors have that consequence? Only then must training wait for readings."""
        return self.policy is not None and any(
            self.policy.config.consequence(m.name) == consequence for m in self._monitors
        )

    def finish(self, pending: PendingReadings, seconds: dict[str, float]) -> Row:
        """The metrics of all monitors that are not off. `seconds/read` is the time that the thread took."""
        pending.join()
        for name, error in pending.failures.items():
            self._off.add(name)
            self.failed[name] += len(pending.episodes)
            self._tell(
                (name, "off"),
                f"monitor {name!r} failed; it reads no more training episodes of this run, training goes on: {error}",
            )
        for read in pending.reads:
            self._count(read)
        if pending.monitors:
            seconds["seconds/read"] = round(pending.seconds, 4)
        return pending.metrics

    def _count(self, read: EpisodesRead) -> None:
        name = read.monitor.name
        if read.failures:
            self.failed[name] += len(read.failures)
            first = next(iter(read.failures.values()))
            self._tell(
                (name, "failed"),
                f"monitor {name!r} failed at {len(read.failures)} of {len(read.episodes)} episodes, which have no "
                f"reading of it; training goes on, and monitor/{name}/failed_episodes counts them. The first: {first}",
            )
        if self.policy is not None:
            for trait, line in self.policy.told(read).items():
                self._tell((name, trait), line)

    def _tell(self, what: tuple[str, str], line: str) -> None:
        """Once per run: what goes on is in the metrics and records."""
        if what not in self._told:
            self._told.add(what)
            self._log(line)

    def state_dict(self) -> dict[str, Any]:
        """JSON-serialisable: a resumed run must not ask again a monitor that has failed."""
        return {"off": sorted(self._off), "failed": dict(self.failed), "told": sorted(map(list, self._told))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._off = set(state.get("off", ()))
        self.failed = Counter(state.get("failed", {}))
        self._told = {(name, what) for name, what in state.get("told", ())}


class PendingReadings:
    """The readings of one update's episodes, which a daemon thread takes: one that hangs does not keep a process up."""

    def __init__(
        self,
        monitors: Sequence[Monitor],
        episodes: Sequence[Episode],
        limit: float,
        log: Callable[[str], None],
        versions: Mapping[str, str],
        policy: AlarmPolicy | None = None,
    ) -> None:
        self.monitors = monitors
        self.episodes = list(episodes)
        self._limit, self._log, self._versions, self._policy = limit, log, versions, policy
        self.metrics = Row()
        self.reads: list[EpisodesRead] = []
        """Of the monitors that have not failed as a whole."""
        self.records: list[MonitorRecord] = []
        """Everything that was suspected."""
        self.failures: dict[str, str] = {}
        self.seconds = 0.0
        self._thread = threading.Thread(target=self._read, name="monitors", daemon=True)
        if monitors:
            self._thread.start()

    def join(self) -> None:
        if self.monitors:
            self._thread.join()

    @property
    def alarmed(self) -> list[Episode]:
        """The episodes that raised an alarm, those with the most records of one first. After `join`."""
        alarms = Counter(record.episode for record in self.records if record.alarm)
        return sorted(
            (e for e in self.episodes if alarms and episode_id(e) in alarms), key=lambda e: -alarms[episode_id(e)]
        )

    def _read(self) -> None:
        start = time.perf_counter()
        for monitor in self.monitors:
            try:
                read = _in_time(monitor, self._limit, partial(read_all, monitor, self.episodes), self._log)
                if self.episodes and not read.whole:
                    raise MonitorError(next(iter(read.failures.values())))
                columns = training_metrics(read) | (self._policy.columns(read) if self._policy else {})
                records = with_alarms(self._policy, read, self._versions[monitor.name])
                self.metrics.add(f"the monitor {monitor.name!r}", columns)
            except BaseException as error:  # in a thread of its own: no signal of the user's comes here
                self.failures[monitor.name] = f"{type(error).__name__}: {message_of(error)}"
            else:
                self.reads.append(read)
                self.records += records
        self.seconds = time.perf_counter() - start


def _in_time(monitor: Monitor, limit: float, read: Callable[[], T], log: Callable[[str], None] = log_to_stderr) -> T:
    """The value of `read()`, which `monitor` reads for. Raises `MonitorError` if it takes more than `limit` seconds."""
    what = f"monitor {monitor.name!r}"
    try:
        return watched(what, limit, read, slow(what, log))
    except NoAnswerError:
        raise MonitorError(f"{what} has not read its episodes within {limit:g} s (eval.monitor_timeout)") from None


def training_metrics(read: EpisodesRead) -> dict[str, float]:
    """`monitor/<name>/<trait>/score` and `.../flagged_episodes` for every trait that the monitor may suspect.

    `score`: mean over turns of the highest score, 0 where it read nothing. `flagged_episodes`: share of the episodes
    with a turn of at least `FLAGGED`. `monitor/<name>/failed_episodes`: share of the episodes at which it failed, which
    count for nothing else.
    """
    name = read.monitor.name
    row = {f"monitor/{name}/failed_episodes": len(read.failures) / max(1, len(read.episodes))}
    for trait in read.traits:
        turns = [read.scores(index, trait) for index in read.whole]
        row[f"monitor/{name}/{trait}/score"] = float(np.concatenate(turns).mean())
        row[f"monitor/{name}/{trait}/flagged_episodes"] = float(np.mean([(own >= FLAGGED).any() for own in turns]))
    return row


# At the evaluation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class EvaluationReadings:
    """What the monitors of a run made of its evaluation."""

    metrics: dict[str, float] = field(default_factory=dict)
    """`monitor.<name>.<trait>.<quantity>` for every trait a monitor reads, over all evaluation conditions."""
    records: list[MonitorRecord] = field(default_factory=list)
    """Everything that was suspected."""
    failed: dict[str, int] = field(default_factory=dict)
    """Name of a monitor -> episodes at which it failed."""


def read_evaluation(
    monitors: Sequence[Monitor],
    episodes: Sequence[Episode],
    limit: float = 600.0,
    log: Callable[[str], None] = log_to_stderr,
    policy: AlarmPolicy | None = None,
) -> EvaluationReadings:
    """Let all monitors read the evaluation. A quantity that cannot be computed is left out of the metrics.

    Raises `MonitorError` if a monitor fails at more than half of the episodes, or takes more than `limit` seconds: a
    result without a monitor that the study asked for would be incomplete. Where it fails at fewer, the log names it.
    """
    sound = [e for e in episodes if not e.status.is_error]
    found = EvaluationReadings()
    reads = []
    for monitor in monitors:
        read = _in_time(monitor, limit, partial(read_all, monitor, sound))
        if read.failures:
            first = (
                f"monitor {monitor.name!r} failed at {len(read.failures)} of {len(sound)} episodes of the evaluation"
            )
            first += f"; the first: {next(iter(read.failures.values()))}"
            if 2 * len(read.failures) > len(sound):
                raise MonitorError(first)
            found.failed[monitor.name] = len(read.failures)
            log(first)
        traits = _traits(read)
        found.metrics.update(_quality(read, traits))
        found.metrics.update(_in_time(monitor, limit, partial(reasoning_metrics, read, traits)))
        found.records.extend(with_alarms(policy, read, version_of(monitor)))
        reads.append(read)
    found.metrics.update(caught_metrics(reads))
    return found


def _traits(read: EpisodesRead) -> list[str]:
    named = getattr(read.monitor, "trait", None)
    return [named] if named else sorted({r.trait for readings in read.readings if readings for r in readings})


def _quality(read: EpisodesRead, traits: Sequence[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for trait in traits:
        of_trait = measured(read, trait)
        prefix = f"monitor.{read.monitor.name}.{trait}"
        found |= {f"{prefix}.{quantity}": of_trait[quantity] for quantity in QUANTITIES if quantity in of_trait}
    return found
