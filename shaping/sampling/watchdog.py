"""Ends this process where a call can be stopped in no other way.

A call that keeps the interpreter to itself, such as a catastrophic regular expression, stops all threads of the
process: no timer of its own can tell. A small child process can. It shares a page of memory with this one: each call
writes there what it is and when it must be over, and a thread writes the time while calls are under way. When that
thread is silent and the call is over its time, the child writes which call it was and aborts the process. A run resumes
from its last saved state; a rollout worker is replaced, and its groups are played again.

The child starts with the first call that is watched, and ends with this process. A process that is stopped (SIGSTOP) is
not ended.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import mmap
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from envs.limits import within

T = TypeVar("T")

GRACE = 2.0
"""Seconds beyond a call's time limit, and without a sign of life, before the process is ended."""
BEAT = 0.25
"""Seconds between two signs of life."""
CERTAIN = 1.0
"""Seconds for which a process must look dead before it is ended."""
EXIT_CODE = 75
"""Exit code where the process ends itself."""
_TIME = struct.Struct("=d")
_CALL = struct.Struct("=dH512s")
"""When the call must be over (0: no call is under way), and what it is: length and text."""
_AFTERWARDS = "this process ends; run again to resume from the last saved state"

_CHILD = f"""
import mmap, os, select, signal, struct, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent, grace, page = int(sys.argv[1]), float(sys.argv[2]), mmap.mmap(int(sys.argv[3]), 4096, mmap.MAP_SHARED)
stopped, suspected, since = 0.0, None, 0.0
def is_stopped():
    try:
        return open("/proc/%d/stat" % parent).read().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False
while os.getppid() == parent and not select.select([0], [], [], 0.2)[0]:
    now, (beat,), (deadline, length, text) = time.monotonic(), struct.unpack_from("=d", page, 0), \
        struct.unpack_from("=dH512s", page, 8)
    if not deadline or now < max(deadline, beat + grace, stopped + grace):
        continue
    if is_stopped():
        stopped = now
        continue
    if (beat, deadline) != suspected:  # looked at again: the page is no lock, and the machine may have been paused
        suspected, since = (beat, deadline), now
    if now < since + {CERTAIN}:
        continue
    sys.stderr.write(text[:length].decode("utf-8", "replace") + sys.argv[4] + "\\n")
    sys.stderr.flush()
    os.kill(parent, signal.SIGABRT)
    for _ in range(30):
        time.sleep(0.1)
        if os.getppid() != parent:
            break
    else:
        os.kill(parent, signal.SIGKILL)
"""
_HELD = f" keeps the interpreter to itself beyond its time limit (a regular expression? a native call?): {_AFTERWARDS}"


class _Watchdog:
    """The calls under way, and the child that watches."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._calls: dict[int, tuple[float, str, bool]] = {}
        self._begun = threading.Event()
        self._page: mmap.mmap | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def begin(self, what: str, seconds: float, alone: bool) -> int:
        if self._pid != os.getpid():  # also after a fork, which leaves thread and child behind
            self._start()
        number = next(self._numbers)
        self._calls[number] = call = (time.monotonic() + seconds + GRACE, what, alone)
        self._write(call)
        if not self._begun.is_set():
            self._begun.set()
        return number

    def end(self, number: int) -> None:
        self._calls.pop(number, None)
        self._write(next(reversed(self._calls.copy().values()), None))

    def _write(self, call: tuple[float, str, bool] | None) -> None:
        """Let the child know the call that was begun last."""
        if self._page is not None:
            text = call[1].encode("utf-8", "replace")[:512] if call else b""
            _CALL.pack_into(self._page, _TIME.size, call[0] if call else 0.0, len(text), text)

    def _start(self) -> None:
        self._pid, self._page, self._child = os.getpid(), None, None
        self._calls, self._begun = {}, threading.Event()
        with contextlib.suppress(OSError, ValueError), tempfile.TemporaryFile() as shared:
            shared.truncate(4096)
            page = mmap.mmap(shared.fileno(), 4096, mmap.MAP_SHARED)
            arguments = [str(self._pid), str(GRACE), str(shared.fileno()), _HELD]
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CHILD, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=_stderr(),
                pass_fds=[shared.fileno()],
            )
            self._page = page  # without a child, calls in Python are still limited
        threading.Thread(target=self._beat, name="watchdog", daemon=True).start()
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None and child.stdin is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                child.stdin.close()
                child.wait(timeout=2.0)

    def _beat(self) -> None:
        pid = self._pid
        while pid == self._pid:
            self._begun.wait()
            now = time.monotonic()
            if self._page is not None:
                _TIME.pack_into(self._page, 0, now)
            for deadline, what, alone in self._calls.copy().values():
                if alone and now > deadline:
                    _end(f"{what} has not ended within its time limit, and catches every exception that would stop it")
            if not self._calls:
                self._begun.clear()
                if self._calls:  # begun just now
                    self._begun.set()
            time.sleep(BEAT)


_WATCHDOG = _Watchdog()


@contextlib.contextmanager
def watching(what: str, seconds: float, *, alone: bool = False) -> Iterator[None]:
    """End this process, with a message that says `what`, if the block keeps the interpreter to itself for too long.

    Args:
        what: the call, e.g. `world 'x' (seed 3): step in turn 4`.
        seconds: its time limit; the process ends `GRACE` seconds later.
        alone: nothing but this can stop the call: also end the process if it merely takes too long.
    """
    number = _WATCHDOG.begin(what, seconds, alone)
    try:
        yield
    finally:
        _WATCHDOG.end(number)


def watched(what: str, seconds: float, call: Callable[[], T], told: Callable[[float], None] = lambda _: None) -> T:
    """`envs.limits.within` for a call that may also keep the interpreter to itself: `watching` says which it was."""
    with watching(what, seconds):
        return within(seconds, call, told)


def _end(message: str) -> None:
    os.write(_stderr(), f"{message}: {_AFTERWARDS}\n".encode())
    os._exit(EXIT_CODE)


def _stderr() -> int:
    """The descriptor behind `sys.stderr`, which a run redirects to its log."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2
