"""The viewer's side of the process that reads episode files (`launch.viewer.index.worker`)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from launch.errors import UserError
from launch.viewer.sources import EpisodeFile

PATIENCE = 60.0
"""Seconds that one answer may take."""
OPENING = 300.0
"""Seconds that opening all files may take."""
MAX_ANSWER = 256 << 20


class AbsentError(UserError):
    """There is no such episode, or a filter has a value that it cannot have."""


class ReaderError(UserError):
    """The files cannot be read, or the process that reads them has ended."""


class Reader:
    """Asks the process that holds the index. One question at a time; threads wait for each other."""

    def __init__(self, files: Sequence[EpisodeFile], monitors: Sequence[str] = ()) -> None:
        self.dropped: list[str] = []
        """One sentence per file that the process died of."""
        self._files, self._monitors = list(files), list(monitors)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._deaths = 0
        self.about: dict[str, Any] = self._start()
        """What was found when the files were opened."""

    def ask(self, what: str, **question: Any) -> Any:
        """The answer to a question of `Worker.answer`. Raises `AbsentError` and `ReaderError`."""
        with self._lock:
            if self._process is None:
                self._start()
            answer = self._exchange({"ask": what, **question}, PATIENCE)
        if "error" in answer:
            raise (AbsentError if answer.get("absent") else ReaderError)(str(answer["error"]))
        return answer["answer"]

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _start(self) -> dict[str, Any]:
        """Open the files. If the process keeps dying, those that kill another process, too, are left out."""
        if self._deaths < 2:
            with contextlib.suppress(ReaderError):
                return self._open()
        from launch.report.files.episode_files import try_reading

        problems = try_reading([Path(file.path) for file in self._files])
        bad = {str(path): why for path, why in problems.items() if why}
        self.dropped += [f"{f.arm}/{f.name} cannot be read: {bad[f.path]}" for f in self._files if f.path in bad]
        self._files = [file for file in self._files if file.path not in bad]
        self._deaths = 0
        return self._open()

    def _open(self) -> dict[str, Any]:
        path = os.pathsep.join(entry for entry in sys.path if entry)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "launch.viewer.index.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is the server's business
        )
        start = {"files": [asdict(file) for file in self._files], "monitors": self._monitors}
        found = self._exchange(start, OPENING)
        return dict(found["answer"])

    def _exchange(self, message: dict[str, Any], patience: float) -> dict[str, Any]:
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(json.dumps(message).encode() + b"\n")
            process.stdin.flush()
            return dict(json.loads(self._line(process.stdout.fileno(), patience)))
        except (OSError, ValueError, EOFError) as error:
            self._end()
            self._deaths += 1
            code = process.returncode
            raise ReaderError(
                f"the process that reads the episode files has ended ({error or f'code {code}'}); ask again to start "
                "another, or look at fewer files: name a run in place of its study"
            ) from None

    def _line(self, descriptor: int, patience: float) -> bytes:
        deadline, parts, size = time.monotonic() + patience, [], 0
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise OSError(f"no answer within {patience:.0f} s")
            read = os.read(descriptor, 1 << 20)
            size += len(read)
            if not read:
                raise EOFError()
            if size > MAX_ANSWER:
                raise OSError(f"an answer of more than {MAX_ANSWER:,} bytes")
            parts.append(read)
            if read.endswith(b"\n"):
                return b"".join(parts)

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        with contextlib.suppress(OSError):
            process.kill()
        process.wait()
