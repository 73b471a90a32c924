"""The run's side of isolated plug-ins: starts their processes, and stands in for them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from envs.escaping import on_one_line
from launch.config.isolation import Isolation
from launch.errors import UserError
from launch.isolation.places import PROJECT, installed, linked, without
from launch.isolation.wire import WireError, generator, receive, send

KEPT = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "PYTHONHASHSEED", "MKL_NUM_THREADS")
"""Variables of the environment that the process gets; all others may be secrets."""
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
GRACE = 5.0
"""Seconds after its own time limit that the process has to end by itself, and to say where it was."""
TAIL = 4000
"""Characters of its errors that are kept."""


class IsolationError(UserError):
    """An isolated plug-in does not start, cannot run isolated, hangs, or its process died."""


class Guest:
    """A process that holds one plug-in. It is ended with this object, and ends by itself with this process.

    Args:
        start: What to build: `kind`, `use`, `fields`, `where` and `arm`.
        isolation: What it must not read, and its time limits.
    Raises: `IsolationError` if the plug-in cannot be built there.
    """

    def __init__(self, start: Mapping[str, Any], isolation: Isolation) -> None:
        self.use: str = start["use"]
        self._isolation = isolation
        self._lock = threading.Lock()
        self._tail = _Tail()
        folder = Path(tempfile.mkdtemp(prefix="isolated-")).resolve()
        try:
            self._process = self._started(folder, start)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self.close = weakref.finalize(self, _end, self._process, folder)
        threading.Thread(target=self._tail.read, args=(self._process.stderr,), name="isolated", daemon=True).start()
        self.about: dict[str, Any] = self._received("its start", isolation.start_seconds)
        if refused := self.about.get("refused"):
            self.close()
            raise IsolationError(on_one_line(str(refused)))

    @property
    def walls(self) -> str:
        """What keeps the plug-in from reading what it is not given."""
        return told(dict(self.about.get("walls") or {}))

    def ask(self, hook: str, arguments: Sequence[Any], error: type[Exception]) -> Any:
        """The answer of a hook.

        Raises: `error` if the hook raises; `IsolationError` if the process does not answer.
        """
        seconds = self._isolation.seconds(hook)
        with self._lock:
            try:
                assert self._process.stdin is not None
                send(self._process.stdin, [hook, seconds, list(arguments)])
            except OSError:  # it has died: reading says how
                pass
            reply = self._received(f"{hook}()", seconds)
        if "raised" in reply:
            raise error(on_one_line(f"{self.about['name']}.{hook}() raised {reply['raised']}"))
        try:
            states = iter(reply["generators"])
            for given in arguments:
                if hasattr(given, "bit_generator"):
                    given.bit_generator.state = generator(next(states)).bit_generator.state
            return reply["answer"]
        except (KeyError, StopIteration, TypeError, ValueError) as failure:
            raise self._broken(f"sent an answer to {hook}() that is none: {failure}") from failure

    def _started(self, folder: Path, start: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        work, hidden = folder / "work", Path(self._isolation.hidden).resolve()
        work.mkdir()
        searched = [PROJECT, *(entry for entry in sys.path if entry), os.getcwd()]
        path, readable = linked([str(entry) for entry in searched], folder, hidden)
        readable += [part for place in installed() for part in without(place, hidden)]
        given = {name: os.environ[name] for name in (*KEPT, *THREADS) if name in os.environ}
        own = dict.fromkeys(("HOME", "TMPDIR", "TMP", "TEMP"), str(work))
        process = subprocess.Popen(
            [sys.executable, "-B", str(Path(__file__).with_name("guest.py")), str(PROJECT)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=work,
            env=given | own,
            start_new_session=True,  # a Ctrl-C is the run's to handle
        )
        words = {
            **start,
            "readable": sorted({str(place) for place in readable}),
            "folder": str(folder),
            "search_path": path,
            "seconds": self._isolation.start_seconds,
        }
        with contextlib.suppress(OSError):  # it has died: reading says how
            assert process.stdin is not None
            process.stdin.write(json.dumps(words).encode() + b"\n")
            process.stdin.flush()
        return process

    def _received(self, what: str, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        answers = _Timed(self._process.stdout, time.monotonic() + seconds + GRACE)
        try:
            reply = receive(answers)
        except (EOFError, OSError) as failure:
            raise self._lost(what, seconds) from failure
        except WireError as failure:
            raise self._broken(f"sent {failure} in {what}") from failure
        except TimeoutError as failure:
            raise self._broken(f"gave no answer within {seconds:g} s in {what}") from failure
        if not isinstance(reply, dict):
            raise self._broken(f"sent a message that is none of ours in {what}")
        return reply

    def _lost(self, what: str, seconds: float) -> IsolationError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self._tail.done.wait(1.0)
        if "Timeout (" in self._tail.text:  # of faulthandler
            return self._broken(f"gave no answer within {seconds:g} s in {what}")
        return self._broken(f"died in {what} (exit code {self._process.returncode})")

    def _broken(self, what: str) -> IsolationError:
        self.close()
        said = self._tail.text
        lines = [line for line in said.splitlines() if line.strip()][-12:]
        shown = "".join(f"\n    {on_one_line(line)}" for line in lines)
        return IsolationError(f"the isolated process of {self.use!r} {what}{shown and ':' + shown}")


def told(walls: Mapping[str, str]) -> str:
    """The walls that stand, and those that this machine does not have."""
    missing = sorted({"files", "sockets"} - set(walls))
    stand = ", ".join(f"{name} by {by}" for name, by in sorted(walls.items())) or "nothing but the process itself"
    shown = f"blocked: {stand}" + (f"; NOT blocked on this machine: {' and '.join(missing)}" if missing else "")
    return on_one_line(shown)


class _Tail:
    """The last errors of a process."""

    def __init__(self) -> None:
        self.text = ""
        self.done = threading.Event()

    def read(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := stream.read1(1 << 16):  # type: ignore[attr-defined]
                self.text = (self.text + chunk.decode("utf-8", "replace"))[-TAIL:]
        self.done.set()


class _Timed:
    """Reads from a pipe until a point in time. Raises `TimeoutError` then."""

    def __init__(self, stream: IO[bytes], deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, size: int) -> bytes:
        chunks: list[bytes] = []
        while size > 0:
            left = self._deadline - time.monotonic()
            if left <= 0 or not select.select([self._stream], [], [], left)[0]:
                raise TimeoutError
            chunk = os.read(self._stream.fileno(), min(size, 1 << 20))
            if not chunk:
                break
            chunks.append(chunk)
            size -= len(chunk)
        return b"".join(chunks)


def _end(process: subprocess.Popen[bytes], folder: Path) -> None:
    with contextlib.suppress(OSError):
        process.kill()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    shutil.rmtree(folder, ignore_errors=True)
