"""What a run's log says of the training signal: that it selects for a trait for long, or is hardly there.

Training goes on as it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from launch.config.study import RunConfig
from launch.storage.resume import log_to_stderr
from launch.train import Updated
from shaping.audits.training.alarm import alarms
from shaping.audits.training.weak_signal import WeakSignals


class AlarmLog:
    """Watches the updates of one run. `rows` are those of the updates before a resume, whose alarms were said then."""

    def __init__(
        self, run: RunConfig, rows: Iterable[Mapping[str, Any]] = (), log: Callable[[str], None] = log_to_stderr
    ) -> None:
        self._gauge, self._log = run.gauge, log
        # one more than the rule needs, which tells an alarm that begins from one that goes on
        self._rows: deque[Mapping[str, Any]] = deque(rows, maxlen=run.gauge.updates + 1)

    def see(self, done: Updated) -> None:
        """Take in an update, and say which alarms begin with it."""
        self._rows.append({**done.row, "update": done.number})
        for trait, began in alarms(list(self._rows), self._gauge).items():
            if began[-1] == done.number:
                self._log(
                    f"update {done.number}: training has selected for {trait.replace('_', ' ')} for "
                    f"{self._gauge.updates} updates (gauge.rule {self._gauge.rule}); selection/{trait} is "
                    f"{done.row[f'selection/{trait}']:.4g}. Training goes on"
                )


def weak_signal_log(
    run: RunConfig, rows: Iterable[Mapping[str, Any]] = (), log: Callable[[str], None] = log_to_stderr
) -> Callable[[Updated], None]:
    """Says once each that most turns are invalid, and that most groups earn the same. `rows`: as for `AlarmLog`."""
    signals = WeakSignals(run.train.updates, rows)

    def see(done: Updated) -> None:
        for said in signals.see(done.row):
            log(f"update {done.number}: {said}")

    return see
