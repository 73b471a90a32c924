"""Run foreign functions with a time limit, as cheaply as the platform allows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol


class TimeLimitExceeded(TimeoutError):
    """The call did not come back in time."""


class Limited(Protocol):
    def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        """`call()`, or `TimeLimitExceeded` after `seconds`."""


@contextmanager
def time_limits() -> Iterator[Limited]:
    """The way to limit calls that fits this thread.

    In the main thread an interval timer interrupts the call (a microsecond of overhead; the signal handler is
    installed once, for the whole block). Elsewhere a call runs in a daemon thread, abandoned when the time is up.
    """
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield _in_thread
        return
    previous = signal.signal(signal.SIGALRM, _expire)
    try:
        yield _with_timer
    finally:
        signal.signal(signal.SIGALRM, previous)


def _expire(_signal: int, _frame: FrameType | None) -> None:
    raise TimeLimitExceeded


def _with_timer(call: Callable[[], Any], seconds: float) -> Any:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return call()
    except TimeLimitExceeded:
        raise TimeLimitExceeded(f"no answer within {seconds:g} s") from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _in_thread(call: Callable[[], Any], seconds: float) -> Any:
    result: list[Any] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(call())
        except BaseException as error:  # handed to the caller below
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failure:
        raise failure[0]
    if not result:
        raise TimeLimitExceeded(f"no answer within {seconds:g} s")
    return result[0]
