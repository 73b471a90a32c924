"""Episode files of a study, read only after another process has read them without harm."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from envs.episode import Episode
from envs.store import BATCH, StoreError, read_episodes

MEMORY = 1_500_000_000
"""Bytes that unpacking a batch of episodes may take."""
PATIENCE, PATIENCE_PER_FILE = 30.0, 5.0
"""Seconds for the files together, and for each of them."""


class EpisodeFiles:
    """Opens the files of a study. The first call tries all of them in another process."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = [path for path in paths if path.is_file()]
        self._problems: dict[Path, str] | None = None

    def __call__(self, path: Path) -> Sequence[Episode]:
        """The episodes of one of the files. Raises `StoreError`, and `FileNotFoundError` if it is not there."""
        if self._problems is None:
            self._problems = try_reading(self._paths)
        if problem := self._problems.get(path):
            raise StoreError(f"{path}: {problem}")
        return read_episodes(path)


def try_reading(paths: Sequence[Path]) -> dict[Path, str]:
    """File -> why it cannot be read, "" where it can."""
    found: dict[Path, str] = {}
    while left := paths[len(found) :]:
        answers, died = _trial(left)
        found |= dict(zip(left, answers, strict=False))
        if died and len(answers) < len(left):
            found[left[len(answers)]] = died
    return found


def _trial(paths: Sequence[Path]) -> tuple[list[str], str]:
    """One answer per file, up to a file at which the process died, and how it did."""
    script = Path(__file__).with_name("trial_read.py")
    command = [sys.executable, "-I", str(script), str(MEMORY), str(BATCH), *map(str, paths)]
    timeout = PATIENCE + PATIENCE_PER_FILE * len(paths)
    try:
        done = subprocess.run(command, capture_output=True, timeout=timeout, check=False)
        output, died = done.stdout, f"the process that read it died (code {done.returncode}); it is damaged"
    except subprocess.TimeoutExpired as late:
        output, died = late.stdout or b"", f"reading it takes longer than {timeout:.0f} s"
    answers: list[str] = []
    with contextlib.suppress(ValueError):  # the last line, cut off
        answers += map(json.loads, output.splitlines())
    return answers, died
