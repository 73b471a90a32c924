"""Jobs of a cluster: what is handed in, and what is seen of it afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Submission:
    """A study on its way to a cluster."""

    id: str
    command: list[str]
    folder: Path
    """What the command's working directory will hold."""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment. `code` is None while it runs; `log` is all that it has printed."""

    log: str
    code: int | None
    why: str = ""


class JobClient(Protocol):
    """Where jobs are handed in."""

    def submit(self, submission: Submission) -> None: ...

    def look(self, job: str) -> JobStatus: ...

    def stop(self, job: str) -> None: ...
