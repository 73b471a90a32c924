"""Progress of a study: one bar per active run on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from envs.escaping import on_one_line, on_terminal
from launch import terminal
from launch.terminal import guarded, raw, say

BAR = 120
"""Longest text beside a bar."""
HEARTBEAT = 30.0
"""Seconds between two lines about the active runs if there is no terminal."""
OFTEN = 5.0
"""The same with --verbose."""


class Display(AbstractContextManager["Display"]):
    """Shows the progress of a study's runs."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(file=raw(sys.stderr), highlight=False, quiet=terminal.volume < 0)
        self.bars: Progress | None = None
        if self.console.is_terminal and terminal.volume == 0:  # with -v, lines of logs would break the bars
            columns = (
                BarColumn(24),
                TextColumn("{task.completed:.0f}{task.fields[of]}"),
                TextColumn("{task.fields[what]}", markup=False),
            )
            times = (TimeElapsedColumn(), TimeRemainingColumn())
            self.bars = Progress(TextColumn("{task.description}", markup=False), *columns, *times, console=self.console)
        self._guard = ExitStack()
        self._tasks: dict[str, TaskID] = {}
        self._state: dict[str, tuple[int, str, str]] = {}
        self._stages: set[str] = set()
        self._overall: TaskID | None = None
        self._finished, self._total = 0, 0
        self._last_line = time.monotonic()

    def __enter__(self) -> Display:
        if self.bars:
            self.bars.start()  # from here on, prints go through rich, which would obey escape sequences
        self._guard.enter_context(guarded())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.close()
        if self.bars:
            self.bars.stop()

    def note(self, text: str, *, warning: bool = False) -> None:
        """Print a message, above the bars if there are any; with --quiet only a warning."""
        terminal.spoken.set()
        if warning and self.console.quiet:
            say(text, err=True)
            return
        (self.bars.console if self.bars else self.console).print(
            on_terminal(text), markup=False, emoji=False, soft_wrap=True
        )

    def notes(self, lines: Iterable[str]) -> None:
        """Print messages, each on a line of its own."""
        for line in lines:
            self.note(line)

    def stage(self, done: int, total: int, what: str) -> None:
        """Show a stage before the runs. `what` is "stage, detail", e.g. "pre-training, loss 2.1"."""
        name, _, detail = on_one_line(what, BAR).partition(", ")
        name = f"model: {name}"
        if self.bars:
            if name not in self._tasks:
                self._clear()
                self._tasks[name] = self.bars.add_task(name, total=total, what="", of="")
            self.bars.update(self._tasks[name], completed=done, total=total, what=detail, of=f"/{total}")
        elif name not in self._stages:
            self._stages.add(name)
            self.note(f"{name} ...")

    def _clear(self) -> None:
        """Remove the bars of finished stages."""
        while self.bars and self._tasks:
            self.bars.remove_task(self._tasks.popitem()[1])

    def begin(self, runs: int) -> None:
        """Start to count runs, of `runs` in all."""
        self._total = runs
        self._clear()
        if self.bars:
            self._overall = self.bars.add_task("runs", total=runs, what="", of=f"/{runs}")

    def start(self, name: str, updates: int | None, done: int = 0) -> None:
        """A run of `updates` updates (None: unknown) has started, or goes on after `done` of them."""
        of = "" if updates is None else f"/{updates}"
        self._state[name] = (done, of, "")
        if self.bars:
            shown = on_one_line(name, BAR)
            self._tasks[name] = self.bars.add_task(shown, total=updates, completed=done, what="", of=of)
        else:
            self.note(f"{name}: resumes after update {done}{of.replace('/', ' of ')}" if done else f"{name}: started")

    def update(self, name: str, done: int, row: Mapping[str, Any]) -> None:
        """`done` updates of a run are finished; `row` holds the metrics of the last one."""
        if name not in self._state:
            return
        reward = row.get("reward")
        what = f"reward {reward:.2f}" if isinstance(reward, (int, float)) else ""
        self._state[name] = (done, self._state[name][1], what)
        if self.bars:
            self.bars.update(self._tasks[name], completed=done, what=what)

    def end(self, name: str, *, ok: bool, retry: bool = False) -> None:
        """A run has ended; with `retry` it starts again."""
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
        """Print the active runs at most every `HEARTBEAT` seconds, and only if there are no bars."""
        patience = OFTEN if terminal.volume > 0 else HEARTBEAT
        if self.bars or time.monotonic() - self._last_line < patience or not self._state:
            return
        self._last_line = time.monotonic()
        running = (f"{name} {done}{of} {what}".rstrip() for name, (done, of, what) in self._state.items())
        self.note("running: " + "; ".join(running))
