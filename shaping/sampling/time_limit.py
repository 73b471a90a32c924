"""Run foreign functions with a time limit, as cheaply as the platform allows."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol


class TimeLimitExceeded(TimeoutError):
    """The call did not come back in time."""


class Limited(Protocol):
    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        """`call()`, or `TimeLimitExceeded` after `seconds`."""


@contextmanager
def time_limits(threads: int = 0) -> Iterator[Limited]:
    """The way to limit calls that fits this thread and the calls.

    With `threads` calls run beside the event loop, so many at once, which goes on meanwhile: for slow calls. Without,
    the event loop waits for each call, which costs next to nothing for fast ones. In the main thread an interval timer
    interrupts it (a microsecond of overhead; the signal handler is installed once, for the whole block). Elsewhere it
    runs in a daemon thread, abandoned when the time is up.
    """
    if threads:
        pool = _Beside(threads)
        try:
            yield pool
        finally:
            pool.close()
        return
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        waiting = _Waiting()
        try:
            yield waiting
        finally:
            waiting.close()
        return
    previous = signal.signal(signal.SIGALRM, _expire)
    try:
        yield _with_timer
    finally:
        signal.signal(signal.SIGALRM, previous)


def _expire(_signal: int, _frame: FrameType | None) -> None:
    raise TimeLimitExceeded


async def _with_timer(call: Callable[[], Any], seconds: float) -> Any:
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        return call()
    except TimeLimitExceeded:
        raise _exceeded(seconds) from None
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _exceeded(seconds: float) -> TimeLimitExceeded:
    return TimeLimitExceeded(f"no answer within {seconds:g} s")


class _Outcome:
    """What became of a call: its value, or what it raised."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._value: Any = None
        self._raised: BaseException | None = None
        try:
            self._value = call()
        except BaseException as error:  # handed to the caller
            self._raised = error

    def unwrap(self) -> Any:
        if self._raised is not None:
            raise self._raised
        return self._value


class _Thread:
    """A daemon thread that makes one call after the other, until it is told to end."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[_Outcome], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._work, name="world", daemon=True).start()

    def submit(self, call: Callable[[], Any], done: Callable[[_Outcome], Any]) -> None:
        self._calls.put((call, done))

    def end(self) -> None:
        """After the call it is in, if that ever comes back."""
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            call, done = work
            outcome = _Outcome(call)
            with contextlib.suppress(RuntimeError):  # the event loop that has asked is gone
                done(outcome)
            del call, done, outcome, work


class _Waiting:
    """Calls in a thread, for which the caller's thread waits."""

    def __init__(self) -> None:
        self._thread = _Thread()

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        answer: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        self._thread.submit(call, answer.put)
        try:
            outcome = answer.get(timeout=seconds)
        except queue.Empty:
            self._thread.end()
            self._thread = _Thread()
            raise _exceeded(seconds) from None
        return outcome.unwrap()

    def close(self) -> None:
        self._thread.end()


class _Beside:
    """Calls in up to `count` threads, while the event loop goes on. A thread that is abandoned is replaced.

    The calls of one world come one after the other, but not all from the same thread.
    """

    def __init__(self, count: int) -> None:
        self._gate = asyncio.Semaphore(count)
        self._idle: list[_Thread] = []

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        async with self._gate:  # the time counts from here: a call is not late because others are slow
            loop = asyncio.get_running_loop()
            future: asyncio.Future[_Outcome] = loop.create_future()
            thread = self._idle.pop() if self._idle else _Thread()
            thread.submit(call, lambda outcome: loop.call_soon_threadsafe(_settle, future, outcome))
            try:
                async with asyncio.timeout(seconds):
                    outcome = await future
            except TimeoutError:
                thread.end()
                raise _exceeded(seconds) from None
            except asyncio.CancelledError:
                thread.end()
                raise
            self._idle.append(thread)
        return outcome.unwrap()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()


def _settle(future: asyncio.Future[_Outcome], outcome: _Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
