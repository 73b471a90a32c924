"""A run that a verb of the command line takes: it must be finished, and unchanged since."""

from __future__ import annotations

from pathlib import Path

from launch.errors import UserError
from launch.storage.rundir import RunDirectory


def finished_run(path: Path) -> RunDirectory:
    """The run at `path`. Raises `UserError` if it is not finished, or has changed since.

    Weights are compared, too.
    """
    directory = RunDirectory(path)
    directory.record()
    if (status := directory.status(weights=True)) == "complete":
        return directory
    why = f"has changed since its end: {directory.damage(weights=True)}" if status == "changed" else "is not finished"
    raise UserError(f"{path} {why}; run its study again, which completes it")
