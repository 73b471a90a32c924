"""Call other people's code with a time limit, as cheaply as the platform allows."""

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
    """The call did not return in time."""


class Limited(Protocol):
    """Makes calls with a time limit."""

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        """Return `call()`, or raise `TimeLimitExceeded` after `seconds`."""


@contextmanager
def time_limits(threads: int = 0) -> Iterator[Limited]:
    """Choose how to limit calls inside the block.

    With `threads` up to that many calls run beside the event loop, which keeps running: for slow calls. Without
    threads the event loop waits for each call, which costs almost nothing for fast calls. In the main thread an
    interval timer interrupts a late call (a microsecond of overhead; the signal handler is installed once per block).
    In other threads the call runs in a daemon thread, which is abandoned if it is late.
    """
    if threads:
        pool = _ConcurrentCalls(threads)
        try:
            yield pool
        finally:
            pool.close()
        return
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        blocking = _BlockingCalls()
        try:
            yield blocking
        finally:
            blocking.close()
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


class _CallResult:
    """The value or the exception of a call."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._value: Any = None
        self._raised: BaseException | None = None
        try:
            self._value = call()
        except BaseException as error:  # unwrap() raises it in the caller's thread
            self._raised = error

    def unwrap(self) -> Any:
        if self._raised is not None:
            raise self._raised
        return self._value


class _Thread:
    """A daemon thread that makes one call after the other, until `end`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[_CallResult], Any]] | None]
        self._calls = queue.SimpleQueue()
        threading.Thread(target=self._work, name="world", daemon=True).start()

    def submit(self, call: Callable[[], Any], done: Callable[[_CallResult], Any]) -> None:
        self._calls.put((call, done))

    def end(self) -> None:
        """End the thread after its present call, if that ever returns."""
        self._calls.put(None)

    def _work(self) -> None:
        while (work := self._calls.get()) is not None:
            call, done = work
            result = _CallResult(call)
            with contextlib.suppress(RuntimeError):  # the caller's event loop is closed
                done(result)
            del call, done, result, work


class _BlockingCalls:
    """Calls in another thread, while the caller's thread waits."""

    def __init__(self) -> None:
        self._thread = _Thread()

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        results: queue.SimpleQueue[_CallResult] = queue.SimpleQueue()
        self._thread.submit(call, results.put)
        try:
            result = results.get(timeout=seconds)
        except queue.Empty:
            self._thread.end()
            self._thread = _Thread()
            raise _exceeded(seconds) from None
        return result.unwrap()

    def close(self) -> None:
        self._thread.end()


class _ConcurrentCalls:
    """Calls in up to `count` threads, while the event loop keeps running. An abandoned thread is replaced.

    Calls of one world come one after the other, but not all from the same thread.
    """

    def __init__(self, count: int) -> None:
        self._gate = asyncio.Semaphore(count)
        self._idle: list[_Thread] = []

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        async with self._gate:  # the time limit starts here, so that slow other calls do not make this one late
            loop = asyncio.get_running_loop()
            future: asyncio.Future[_CallResult] = loop.create_future()
            thread = self._idle.pop() if self._idle else _Thread()
            thread.submit(call, lambda result: loop.call_soon_threadsafe(_resolve, future, result))
            try:
                async with asyncio.timeout(seconds):
                    result = await future
            except TimeoutError:
                thread.end()
                raise _exceeded(seconds) from None
            except asyncio.CancelledError:
                thread.end()
                raise
            self._idle.append(thread)
        return result.unwrap()

    def close(self) -> None:
        while self._idle:
            self._idle.pop().end()


def _resolve(future: asyncio.Future[_CallResult], result: _CallResult) -> None:
    if not future.done():
        future.set_result(result)
