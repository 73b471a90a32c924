"""Work that starts an event loop of its own, from where one may be running already, as in a notebook."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def outside_event_loops(work: Callable[[], T]) -> T:
    """Return `work()`. It runs in another thread if this one already runs an event loop, which waits for it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, work).result()
