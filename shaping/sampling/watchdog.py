"""Ends this process where a call can be stopped in no other way.

A call that keeps the interpreter to itself, such as a catastrophic regular expression, stops all threads of the
process: no timer of its own can tell. A small child process can: a thread here writes to it while calls are under way,
and when nothing came for as long as the calls may take, the child writes which call it was and aborts the process. A
run resumes from its last saved state; a rollout worker is replaced, and its groups are played again.

The child starts with the first call that is watched, and ends with this process. A process that is stopped (SIGSTOP) is
not ended.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

GRACE = 2.0
"""Seconds beyond a call's time limit before the process is ended."""
BEAT = 0.25
"""Seconds between two signs of life."""
EXIT_CODE = 75
"""Exit code where the process ends itself."""

_AFTERWARDS = "this process ends; run again to resume from the last saved state"

_CHILD = """
import os, select, signal, sys, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent, left, what, since = int(sys.argv[1]), None, "", time.monotonic()
buffer = b""
def stopped():
    try:
        return open("/proc/%d/stat" % parent).read().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False
while os.getppid() == parent:
    if select.select([0], [], [], 0.2)[0]:
        data = os.read(0, 65536)
        if not data:
            break
        *lines, buffer = (buffer + data).split(b"\\n")
        if lines:
            seconds, _, text = lines[-1].decode("utf-8", "replace").partition(" ")
            left, what, since = (float(seconds) if seconds else None), text, time.monotonic()
    elif stopped():
        since = time.monotonic()
    elif left is not None and time.monotonic() - since > left:
        sys.stderr.write(what + "\\n")
        sys.stderr.flush()
        os.kill(parent, signal.SIGABRT)
        time.sleep(3)
        if os.getppid() == parent:
            os.kill(parent, signal.SIGKILL)
        break
"""


class _Watchdog:
    """The calls under way, and the child that watches."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._calls: dict[int, tuple[float, str, bool]] = {}
        self._begun = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0

    def begin(self, what: str, seconds: float, alone: bool) -> int:
        number = next(self._numbers)
        self._calls[number] = (time.monotonic() + seconds + GRACE, what, alone)
        if self._pid != os.getpid():  # also after a fork, which leaves thread and child behind
            self._start()
        if not self._begun.is_set():
            self._begun.set()
        return number

    def end(self, number: int) -> None:
        del self._calls[number]

    def _start(self) -> None:
        self._pid = os.getpid()
        self._begun = threading.Event()
        with contextlib.suppress(OSError, ValueError):  # without a child, calls in Python are still limited
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _CHILD, str(self._pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=_stderr(),
            )
        threading.Thread(target=self._beat, name="watchdog", daemon=True).start()
        atexit.register(self.stop)

    def stop(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.stdin is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                child.stdin.close()
                child.wait(timeout=2.0)

    def _beat(self) -> None:
        while True:
            self._begun.wait()
            calls = sorted(self._calls.copy().values())  # other threads add and remove
            now = time.monotonic()
            for deadline, what, alone in calls:
                if alone and now > deadline:
                    _end(f"{what} has not ended within its time limit, and catches every exception that would stop it")
            if not calls:
                self._begun.clear()
                if self._calls:  # begun just now
                    self._begun.set()
                    continue
            deadline, what, _ = calls[0] if calls else (0.0, "", False)
            self._tell(f"{max(deadline - now, 2 * BEAT):.2f} {_message(what)}\n" if calls else " \n")
            time.sleep(BEAT)

    def _tell(self, line: str) -> None:
        child = self._child
        if child is not None and child.stdin is not None:
            with contextlib.suppress(OSError, ValueError):
                child.stdin.write(line.encode("utf-8", "replace"))
                child.stdin.flush()


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


def _message(what: str) -> str:
    held = "keeps the interpreter to itself beyond its time limit (a regular expression, a long native call?)"
    return f"{' '.join(what.split())[:500]} {held}: {_AFTERWARDS}"


def _end(message: str) -> None:
    os.write(_stderr(), f"{message}: {_AFTERWARDS}\n".encode())
    os._exit(EXIT_CODE)


def _stderr() -> int:
    """The descriptor behind `sys.stderr`, which a run redirects to its log."""
    try:
        return sys.stderr.fileno()
    except (AttributeError, OSError, ValueError):
        return 2
