"""How long tests wait for others: longer on a machine that is busy."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MOST = 10.0
"""No wait is stretched further, so that a hang still ends."""


def patience(seconds: float) -> float:
    """`seconds` of an idle machine, in seconds of this one: stretched by how many processes share a core now."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return seconds * min(max(1.0, 2 * os.getloadavg()[0] / cores), MOST)


def wait_until(true: Callable[[], bool], seconds: float = 90.0, *, every: float = 0.1) -> None:
    """Fails after `seconds`, stretched by the load that there is while it waits."""
    started = time.monotonic()
    while not true():
        waited, most = time.monotonic() - started, patience(seconds)
        assert waited < most, f"it took too long: {waited:.0f} s, of at most {most:.0f}"
        time.sleep(every)


@contextmanager
def interruptible_children() -> Iterator[None]:
    """Processes started inside the block obey SIGINT, even if this one ignores it (as background jobs do).

    A process inherits from its parent which signals are ignored.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
