"""A display that shows nothing and keeps what it is told."""

from __future__ import annotations

from rich.console import Console

from launch.tracking.progress import Display


class Lines(Display):
    """`said` holds the lines."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.said: list[str] = []

    def note(self, text: str, *, warning: bool = False) -> None:
        self.said.append(text)
