"""Jobs on a Ray cluster: the request, the observed status, and the client interface."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class Submission:
    """A study to run on a cluster."""

    id: str
    """Name of the job."""
    command: list[str]
    """The command line that the cluster runs."""
    folder: Path
    """A local folder; its files become the working directory of the command."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the command."""


@dataclass(frozen=True)
class JobStatus:
    """A job at one moment."""

    log: str
    """Everything that the job has printed so far."""
    code: int | None
    """Its exit code; None while it runs."""
    reason: str = ""
    """Why it failed; empty if it did not."""


class JobClient(Protocol):
    """A connection to a cluster that accepts jobs."""

    def submit(self, submission: Submission) -> None:
        """Start a job."""

    def status(self, job: str) -> JobStatus:
        """The log and state of a job."""

    def stop(self, job: str) -> None:
        """Ask a job to stop."""
