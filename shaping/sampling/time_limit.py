"""Run a foreign function with a time limit, as cheaply as the platform allows."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class TimeLimitExceeded(TimeoutError):
    """The call did not come back in time."""


def call_with_limit(call: Callable[[], T], seconds: float) -> T:
    """`call()`, or `TimeLimitExceeded` after `seconds`.

    In the main thread an interval timer interrupts the call (microseconds of overhead). Elsewhere the call runs in a
    daemon thread that is abandoned when the time is up.
    """
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _with_timer(call, seconds)
    return _in_thread(call, seconds)


def _with_timer(call: Callable[[], T], seconds: float) -> T:
    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeLimitExceeded(f"no answer within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return call()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


def _in_thread(call: Callable[[], T], seconds: float) -> T:
    result: list[T] = []
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
