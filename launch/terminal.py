"""The only place that writes to the terminal: all text passes `envs.escaping`, also the prints of plug-ins."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import IO, Any

from envs.escaping import on_terminal

spoken = threading.Event()
"""Has this program written anything since the event was cleared?"""
volume = 0
"""-1: results, warnings and errors alone; 1: also what is logged on the way."""
PRINTED_LINE, PRINTED = 4000, 64_000
"""Longest line, and longest single print, of code that is not ours: tracebacks, warnings, logs."""


def say(text: str, *, err: bool = False, whole: bool = False) -> None:
    """Print a message. `whole`: it has any length, since its parts are ours or were checked."""
    spoken.set()
    stream = sys.stderr if err else sys.stdout
    shown = on_terminal(text, PRINTED_LINE, None) if whole else on_terminal(text)
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


class SafeStream:
    """A stream that shows control characters instead of passing them on, and cuts what is endless.

    It is no terminal for those who ask, so that libraries do not colour their output.
    """

    def __init__(self, raw: IO[str], longest: int | None = PRINTED) -> None:
        self.raw = raw
        """The stream behind it."""
        self.longest = longest
        """Characters of one print; None: any number."""

    def write(self, text: str) -> int:
        """Write a text, made safe; returns the length of the original."""
        spoken.set()
        self.raw.write(on_terminal(_lines(text), PRINTED_LINE, self.longest))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def isatty(self) -> bool:
        """Never: nothing that comes through may use escape sequences."""
        return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def raw(stream: Any) -> Any:
    """The stream behind a `SafeStream`, for the progress bars, which move the cursor; any other stream is itself."""
    return stream.raw if isinstance(stream, SafeStream) else stream


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Make stdout and stderr of this process safe, for as long as code of plug-ins may print, warn or log."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _safe(sys.stdout), _safe(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _safe(stream: Any) -> Any:
    return stream if isinstance(stream, SafeStream) else SafeStream(stream)


def _lines(text: str) -> str:
    """Bars of libraries return to the start of their line; here each state is a line."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text
