"""Runs programs that nobody trusts, each in a process of its own (`cell`), and says what they return.

What a program should return stays here. The process is given inputs alone, so a program that writes into the channel of
its results, leaves early or patches what runs it can choose what it is taken to return, and nothing else.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

CELL = Path(__file__).with_name("cell.py")
CPU_SECONDS = 2
MEMORY = 512 << 20
WALL_SECONDS = 30.0
"""For a program that neither computes nor ends, and for a machine that others use."""
MOST_OUTPUT = 1 << 18
"""Bytes of results that are read."""
MOST_CODE = 4000
"""Characters of the longest program, and of the longest tests, that are run."""
NEEDED = frozenset({"limits", "calls"})
"""The walls without which a program is not contained."""
FAILED = object()
"""In place of a value: the call raised, or its result never came."""


@dataclass(frozen=True)
class Run:
    """What came of a program."""

    defined: bool
    """Is it Python that defines the function, and are the tests Python?"""
    literals: tuple[Any, ...]
    """Numbers and texts that stand in it, read before it ran."""
    values: tuple[Any, ...]
    """What its calls returned, `FAILED` where they did not."""
    passed: bool
    """Did the agent's own tests run to their end?"""
    walls: frozenset[str]
    """The walls that stood."""


def run(program: str, name: str, calls: Sequence[Sequence[Any]], tests: str | None = None) -> Run:
    """Run a program on inputs, and then the agent's own tests, if it has written some.

    The same program gives the same answer: it is run once, unless it was long ago.
    """
    return _remembered(program, name, json.dumps(list(calls)), tests)


@lru_cache(maxsize=4096)
def _remembered(program: str, name: str, calls: str, tests: str | None) -> Run:
    inputs = json.loads(calls)
    if len(program) > MOST_CODE or len(tests or "") > MOST_CODE:
        return Run(False, (), (FAILED,) * len(inputs), False, frozenset())
    limits = {"seconds": CPU_SECONDS, "bytes": MEMORY}
    job = {"program": program, "name": name, "calls": inputs, "tests": tests, "limits": limits}
    return _read(_lines(json.dumps(job).encode()), len(inputs))


class CellError(RuntimeError):
    """The process that starts programs does not answer."""


class _Cells:
    """A process that forks for each program. It has seen nothing but jobs, and ends with this process."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._empty = tempfile.TemporaryDirectory(prefix="programs-")
        self._asks, theirs = socket.socketpair()
        self._asks.settimeout(WALL_SECONDS)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-s", "-S", "-B", str(CELL), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            cwd=self._empty.name,
            env={"PYTHONHASHSEED": "0"},  # sets have one order, so that a program gives one answer
            start_new_session=True,  # a Ctrl-C is not for it
        )
        theirs.close()

    def results(self, job: bytes) -> bytes:
        """What one job writes. Raises `OSError` if the process is gone."""
        ours, theirs = os.pipe()
        try:
            try:
                socket.send_fds(self._asks, [len(job).to_bytes(8, "little")], [theirs])
                self._asks.sendall(job)
            finally:
                os.close(theirs)
            said = _until(ours, time.monotonic() + WALL_SECONDS)
        finally:
            os.close(ours)
        self._asks.sendall(b".")
        if self._asks.recv(1) != b".":
            raise ConnectionError("the process that starts programs has ended")
        return said

    def close(self) -> None:
        """End the process."""
        self._asks.close()
        if self.owner == os.getpid():
            self._process.kill()
            self._process.wait()
            self._empty.cleanup()


_LOCK = threading.Lock()
_CELLS: list[_Cells] = []
"""The process of this process, if it has one by now."""


def _written(job: bytes) -> bytes:
    """What a job writes. The process is started if need be, and once more if it has died."""
    with _LOCK:
        for _ in range(2):
            if _CELLS and _CELLS[0].owner != os.getpid():  # this process was forked
                _CELLS.pop().close()
            if not _CELLS:
                _CELLS.append(_Cells())
            try:
                return _CELLS[0].results(job)
            except OSError:
                _CELLS.pop().close()
            except BaseException:  # it waits for a word that it will not get
                _CELLS.pop().close()
                raise
    raise CellError("the process that runs programs has died twice; is the machine out of memory?")


@atexit.register
def _end() -> None:
    while _CELLS:
        _CELLS.pop().close()


def _lines(job: bytes) -> list[Any]:
    """The results that a process sends, up to the first that is none."""
    found = []
    for line in _written(job).split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return found


def _until(pipe: int, deadline: float) -> bytes:
    """What a pipe gives until its end, the deadline, or the most that is read."""
    said = b""
    while len(said) < MOST_OUTPUT and (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            break
        if not (chunk := os.read(pipe, 1 << 16)):
            break
        said += chunk
    return said[:MOST_OUTPUT]


def _read(lines: list[Any], calls: int) -> Run:
    """The run that lines tell. The first two were written before the program had its turn."""
    first, about, *rest = [*lines, {}, {}] if len(lines) < 2 else lines
    stood = frozenset(first["walls"]) if isinstance(first, dict) and "walls" in first else frozenset()
    values: list[Any] = []
    for line in rest[:calls]:
        if not isinstance(line, dict) or line.get("call") != len(values):
            break
        values.append(line.get("value", FAILED))
    whole = len(values) == calls and len(rest) == calls + 1
    passed = whole and isinstance(rest[-1], dict) and rest[-1].get("passed") is True
    defined = about.get("defined") is True and about.get("tests") is True
    values += [FAILED] * (calls - len(values))
    return Run(defined, tuple(about.get("literals", ())), tuple(values), passed, stood)


def same(one: Any, other: Any) -> bool:
    """Are two values the same, as JSON has them? Truth values are no numbers."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return bool(one == other)


@lru_cache(maxsize=1)
def standing() -> frozenset[str]:
    """The walls that this machine has."""
    return run("def f(): pass", "f", [[]]).walls


def require_walls(world: str, uncontained: str) -> None:
    """Raise `ValueError` where programs would not be contained, unless the user has allowed that."""
    if uncontained == "allow" or standing() >= NEEDED:
        return
    missing = ", ".join(sorted(NEEDED - standing()))
    raise ValueError(
        f"world {world!r} runs programs that models write, and this machine cannot contain them (missing: {missing}; "
        "it needs Linux with seccomp on x86-64 or ARM64): run it there, or in a container that you can lose with "
        "uncontained: allow"
    )
