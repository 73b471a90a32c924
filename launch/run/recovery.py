"""Resuming a run that has lost a rank of its learner group, or some of its files, as after a kill."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from launch.config.study import RunConfig
from launch.errors import UserError
from launch.storage import jsonl
from launch.storage.checkpoint import Checkpoints
from launch.storage.resume import log_to_stderr
from launch.storage.rundir import METRICS, LostFilesError, RunDirectory

R = TypeVar("R")

REPLAYS = 2
"""Replays after lost files, in a row without a new update between them."""


class RankLost(RuntimeError):
    """A rank died, hangs or cannot be reached, so its group cannot go on. The message names stage and rank."""


def surviving(
    attempt: Callable[[], R], directory: RunDirectory, run: RunConfig, log: Callable[[str], None] = log_to_stderr
) -> R:
    """Call `attempt`, which resumes from the newest usable state, until it ends without losing a rank or files.

    Raises `UserError` after `train.learner_group.restarts` restarts, or `REPLAYS` replays of lost files, in a row
    between which no update was finished that had not been finished before.
    """
    failures, replays, furthest = 0, 0, 0
    while True:
        try:
            return attempt()
        except LostFilesError as lost:
            replays += 1
            if replays > REPLAYS:
                raise LostFilesError(f"{lost}, and again in {REPLAYS} replays: find the program and stop it") from lost
            log(f"{lost}; what is lost is played again")
        except RankLost as lost:
            done = _updates(directory)
            failures, replays = 1 if done > furthest else failures + 1, 0
            furthest = max(furthest, done)
            if failures > run.train.learner_group.restarts:
                raise UserError(
                    f"the learner group was lost {failures} times in a row (train.learner_group.restarts="
                    f"{run.train.learner_group.restarts}), the last time so: {lost}"
                ) from lost
            log(f"{lost}; the group restarts, {_since(directory, run)}")


def _updates(directory: RunDirectory) -> int:
    """Number of updates in metrics.jsonl."""
    return len(jsonl.whole(directory.path / METRICS).rows)


def _since(directory: RunDirectory, run: RunConfig) -> str:
    if not run.train.checkpoint_every:
        return "and the run from its start: train.checkpoint_every=0 saves no training states"
    newest = Checkpoints.of(directory, run).newest()
    return "and the run from its start" if newest is None else f"from the state after update {newest}"
