"""Call other people's code with a time limit, as cheaply as the code allows.

Three ways, which `time_limits` chooses from:

- *inline*: the event loop waits, and an interval timer interrupts a late call. Almost free, for the built-in worlds.
- *beside*: the event loop waits while a thread makes the call, one at a time and in the same order. Code that has an
  event loop of its own works there (`asyncio.run`, synchronous clients), and a late call is left behind with its
  thread. Some 30 microseconds per call.
- *threads*: as beside, but several calls at once while the event loop goes on, for slow calls.

A call that is late has failed, whatever it returns later. In the first way it is interrupted with `CallInterrupted`,
which `except Exception` does not catch, again and again until it is out. In the others its thread is interrupted so,
which ends one that nobody waits for any more. `shaping.sampling.watchdog` ends the process where none of this helps:
where a call keeps the interpreter to itself (a catastrophic regular expression), or catches everything.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import queue
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Protocol

from envs import is_built_in
from shaping.sampling.watchdog import watching

REPEAT = 0.05
"""Seconds between two interruptions of a call that does not end at the first."""
ABANDONED_AFTER = 2
"""Late calls of one class after which it is told by name, and is no longer called inline."""


class TimeLimitExceeded(TimeoutError):
    """The call did not return in time."""


class CallInterrupted(BaseException):
    """Raised inside a late call, to end it. Calls must let it through."""


class CallRaised(Exception):
    """The call raised `error`, which may be any exception, SystemExit and CancelledError included."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(type(error).__name__)
        self.error = error


class Way(Protocol):
    """Makes a call with a time limit."""

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        """Return `call()`. Raises `TimeLimitExceeded` after `seconds`, and `CallRaised` if the call raises."""


class Limited:
    """Makes the calls of worlds with a time limit; each class in the way that suits it."""

    def __init__(self, threads: int | None, log: Callable[[str], None]) -> None:
        self._threads, self._log = threads, log
        self._resources = contextlib.ExitStack()
        self._beside = _BlockingCalls()
        self._concurrent = _ConcurrentCalls(threads or 1)
        self._resources.callback(self._beside.close)
        self._resources.callback(self._concurrent.close)
        self._inline: Way = self._beside
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
            timed = _TimedCalls()
            previous = signal.signal(signal.SIGALRM, timed.expire)
            self._resources.callback(signal.signal, signal.SIGALRM, previous)
            self._inline = timed
        self._late: Counter[str] = Counter()

    async def __call__(self, call: Callable[[], Any], seconds: float, kind: type | None = None, what: str = "") -> Any:
        """Return `call()`. Raises `TimeLimitExceeded` and `CallRaised`.

        Args:
            call: a call of a world.
            seconds: its limit.
            kind: the world's class; None: it is not made yet.
            what: the call, for messages.
        """
        way = self._way(kind)
        try:
            if kind is not None and is_built_in(kind):
                return await way(call, seconds)
            with watching(what, seconds, alone=way is self._inline and way is not self._beside):
                return await way(call, seconds)
        except TimeLimitExceeded:
            self._note_late(kind, what, seconds)
            raise

    def stuck(self) -> list[str]:
        """Classes with at least two late calls that still run, although they were interrupted."""
        alive = Counter(thread.label for thread in (*self._beside.left, *self._concurrent.left) if thread.busy)
        return sorted(label for label, number in alive.items() if number >= ABANDONED_AFTER)

    def close(self) -> None:
        """End the threads, and take the timer's signal back."""
        self._resources.close()

    def _way(self, kind: type | None) -> Way:
        if self._threads:
            return self._concurrent
        if self._threads is None:
            return self._inline if kind is not None and is_built_in(kind) else self._beside
        return self._beside if self._late[_label(kind)] >= ABANDONED_AFTER else self._inline

    def _note_late(self, kind: type | None, what: str, seconds: float) -> None:
        label = _label(kind)
        self._late[label] += 1
        for thread in (*self._beside.left, *self._concurrent.left):
            thread.label = thread.label or label
        if kind is not None and self._late[label] == ABANDONED_AFTER:
            self._log(
                f"{label} has not answered within {seconds:g} s for the second time ({what}): such calls fail their "
                "episode and are left behind with their thread; if it is only slow, raise train.step_timeout"
            )


def _label(kind: type | None) -> str:
    return "a constructor" if kind is None else f"{kind.__module__}:{kind.__qualname__}"


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def time_limits(threads: int | None = None, log: Callable[[str], None] = _to_stderr) -> Iterator[Limited]:
    """Choose how to limit calls inside the block.

    Args:
        threads: None: the built-in worlds inline, all others beside the event loop. 0: all inline. Above: all in so
            many threads.
        log: told of classes that are late again.
    """
    limited = Limited(threads, log)
    try:
        yield limited
    finally:
        limited.close()


def _exceeded(seconds: float) -> TimeLimitExceeded:
    return TimeLimitExceeded(f"no answer within {seconds:g} s")


class _TimedCalls:
    """Calls in the event loop of the main thread, interrupted by a timer."""

    def __init__(self) -> None:
        self._armed = self._fired = False

    def expire(self, _signal: int, _frame: FrameType | None) -> None:
        """The signal handler."""
        if self._armed:
            self._fired = True
            raise CallInterrupted

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        self._fired, self._armed = False, True
        signal.setitimer(signal.ITIMER_REAL, seconds, REPEAT)
        raised: BaseException | None = None
        value = None
        try:
            try:
                value = call()
            finally:
                self._armed = False
        except KeyboardInterrupt:  # the user's
            raise
        except BaseException as error:
            raised = error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self._fired:  # whatever the call made of it
            raise _exceeded(seconds) from None
        if raised is not None:
            raise CallRaised(raised) from raised
        return value


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
            raise CallRaised(self._raised) from self._raised
        return self._value


class _Thread:
    """A daemon thread that makes one call after the other, until `end`."""

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], Callable[[_CallResult], Any]] | None]
        self._calls = queue.SimpleQueue()
        self.label = ""
        self._thread = threading.Thread(target=self._work, name="world", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Has it not ended yet?"""
        return self._thread.is_alive()

    def submit(self, call: Callable[[], Any], done: Callable[[_CallResult], Any]) -> None:
        self._calls.put((call, done))

    def end(self) -> None:
        """End the thread after its present call, if that ever returns."""
        self._calls.put(None)

    def abandon(self) -> None:
        """Interrupt its present call and end it. Code outside of Python is not interrupted before it returns."""
        self.end()
        if self._thread.ident is not None:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self._thread.ident), ctypes.py_object(CallInterrupted)
            )

    def _work(self) -> None:
        with contextlib.suppress(CallInterrupted):  # one that arrives after the call it was meant for
            while (work := self._calls.get()) is not None:
                call, done = work
                result = _CallResult(call)
                with contextlib.suppress(RuntimeError):  # the caller's event loop is closed
                    done(result)
                del call, done, result, work


class _BlockingCalls:
    """Calls in another thread, while the caller's thread waits."""

    def __init__(self) -> None:
        self._thread: _Thread | None = None
        self.left: list[_Thread] = []

    async def __call__(self, call: Callable[[], Any], seconds: float) -> Any:
        thread = self._thread = self._thread or _Thread()
        results: queue.SimpleQueue[_CallResult] = queue.SimpleQueue()
        thread.submit(call, results.put)
        try:
            result = results.get(timeout=seconds)
        except queue.Empty:
            self._thread = None
            self.left = [*(t for t in self.left if t.busy), thread]
            thread.abandon()
            raise _exceeded(seconds) from None
        return result.unwrap()

    def close(self) -> None:
        if self._thread is not None:
            self._thread.end()
            self._thread = None


class _ConcurrentCalls:
    """Calls in up to `count` threads, while the event loop keeps running. An abandoned thread is replaced.

    Calls of one world come one after the other, but not all from the same thread.
    """

    def __init__(self, count: int) -> None:
        self._gate = asyncio.Semaphore(count)
        self._idle: list[_Thread] = []
        self.left: list[_Thread] = []

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
                self.left = [*(t for t in self.left if t.busy), thread]
                thread.abandon()
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
