"""Trackers that keep what they are told, or fail where they are asked to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from launch.tracking.tracking import TrackedRun


class Recorder:
    """A tracker that keeps what it is told."""

    told: list[tuple[str, Any]] = []

    def __init__(self, note: str = "") -> None:
        self.note = note

    def start(self, run: TrackedRun) -> None:
        self.told.append(("start", run))

    def log(self, row: Mapping[str, Any], step: int) -> None:
        self.told.append(("log", step))

    def finish(self, result: Mapping[str, Any] | None) -> None:
        self.told.append(("finish", result and result["seed"]))


class Breaks(Recorder):
    """Fails where its note says."""

    def start(self, run: TrackedRun) -> None:
        if self.note == "start":
            raise OSError("no route to host")

    def log(self, row: Mapping[str, Any], step: int) -> None:
        if self.note == "log" and step == 1:
            raise SystemExit("a login is needed")

    def finish(self, result: Mapping[str, Any] | None) -> None:
        if self.note == "finish":
            raise RuntimeError("the upload failed")


class Unbuildable(Recorder):
    def __init__(self) -> None:
        raise KeyError("no such thing")
