"""Resuming a run whose learner group has lost a rank, as after a kill."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from launch.config.study import RunConfig
from launch.errors import UserError
from launch.storage.checkpoint import Checkpoints
from launch.storage.resume import log_to_stderr
from launch.storage.rundir import RunDirectory

R = TypeVar("R")


class RankLost(RuntimeError):
    """A rank died, hangs or cannot be reached, so its group cannot go on. The message names stage and rank."""


def surviving(
    attempt: Callable[[], R], directory: RunDirectory, run: RunConfig, log: Callable[[str], None] = log_to_stderr
) -> R:
    """Call `attempt`, which resumes from the newest state, until it ends without losing a rank.

    Raises `UserError` after `train.learner_group.restarts` restarts in a row between which no update was finished that
    had not been finished before.
    """
    failures, furthest = 0, 0
    while True:
        try:
            return attempt()
        except RankLost as lost:
            done = _updates(directory)
            failures = 1 if done > furthest else failures + 1
            furthest = max(furthest, done)
            if failures > run.train.learner_group.restarts:
                raise UserError(
                    f"the learner group was lost {failures} times in a row (train.learner_group.restarts="
                    f"{run.train.learner_group.restarts}), the last time so: {lost}"
                ) from lost
            log(f"{lost}; the group restarts, {_since(directory, run)}")


def _updates(directory: RunDirectory) -> int:
    """Number of updates in metrics.jsonl."""
    path = directory.path / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def _since(directory: RunDirectory, run: RunConfig) -> str:
    if not run.train.checkpoint_every:
        return "and the run from its start: train.checkpoint_every=0 saves no training states"
    newest = Checkpoints.of(directory, run).newest()
    return "and the run from its start" if newest is None else f"from the state after update {newest}"
