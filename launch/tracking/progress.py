"""What a study shows while it runs: a bar per running run on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

HEARTBEAT = 30.0
"""Seconds between lines about running runs where there is no terminal."""


class Display(AbstractContextManager["Display"]):
    """Progress of a study's runs. `note` prints a line above the bars."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=sys.stderr, highlight=False)
        self.bars: Progress | None = None
        if self.console.is_terminal:
            columns = (
                BarColumn(24),
                TextColumn("{task.completed:.0f}/{task.total:.0f}"),
                TextColumn("{task.fields[what]}"),
            )
            times = (TimeElapsedColumn(), TimeRemainingColumn())
            self.bars = Progress(TextColumn("{task.description}"), *columns, *times, console=self.console)
        self._tasks: dict[str, TaskID] = {}
        self._state: dict[str, tuple[int, int, str]] = {}
        self._stages: set[str] = set()
        self._overall: TaskID | None = None
        self._finished, self._total = 0, 0
        self._spoke = time.monotonic()

    def __enter__(self) -> Display:
        if self.bars:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()

    def note(self, text: str) -> None:
        (self.bars.console if self.bars else self.console).print(text, markup=False, soft_wrap=True)

    def stage(self, done: int, total: int, what: str) -> None:
        """Progress of what comes before the runs: `what` is "stage, detail", e.g. "pre-training, loss 2.1"."""
        name, _, detail = what.partition(", ")
        name = f"model: {name}"
        if self.bars:
            if name not in self._tasks:
                self._clear()
                self._tasks[name] = self.bars.add_task(name, total=total, what="")
            self.bars.update(self._tasks[name], completed=done, total=total, what=detail)
        elif name not in self._stages:
            self._stages.add(name)
            self.note(f"{name} ...")

    def _clear(self) -> None:
        """Remove the bars of stages that are over."""
        while self.bars and self._tasks:
            self.bars.remove_task(self._tasks.popitem()[1])

    def begin(self, runs: int) -> None:
        """`runs` runs are about to be executed."""
        self._total = runs
        self._clear()
        if self.bars:
            self._overall = self.bars.add_task("runs", total=runs, what="")

    def start(self, name: str, updates: int) -> None:
        self._state[name] = (0, updates, "")
        if self.bars:
            self._tasks[name] = self.bars.add_task(name, total=updates, what="")
        else:
            self.note(f"{name}: started")

    def update(self, name: str, done: int, row: Mapping[str, Any]) -> None:
        """`done` of the run's updates are finished; `row` are the metrics of the last."""
        if name not in self._state:
            return
        reward = row.get("reward")
        what = f"reward {reward:.2f}" if isinstance(reward, (int, float)) else ""
        self._state[name] = (done, self._state[name][1], what)
        if self.bars:
            self.bars.update(self._tasks[name], completed=done, what=what)

    def end(self, name: str, *, ok: bool, retry: bool = False) -> None:
        """The run is over; with `retry` it starts again."""
        self._state.pop(name, None)
        self._finished += not retry
        if self.bars:
            if name in self._tasks:
                self.bars.remove_task(self._tasks.pop(name))
            if self._overall is not None:
                self.bars.update(self._overall, completed=self._finished)
        elif ok:
            self.note(f"{name}: finished ({self._finished} of {self._total} runs)")

    def heartbeat(self) -> None:
        """Called often; speaks seldom, and only where there are no bars."""
        if self.bars or time.monotonic() - self._spoke < HEARTBEAT or not self._state:
            return
        self._spoke = time.monotonic()
        running = (f"{name} {done}/{total} {what}".rstrip() for name, (done, total, what) in self._state.items())
        self.note("running: " + "; ".join(running))
