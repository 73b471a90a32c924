"""The controller's records of submitted groups and of rollout workers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from launch.config.study import RunConfig
from launch.distributed.workers.rollout_worker import WorkerStatus
from launch.run.episodes import GroupRequest, describe_group
from launch.run.evaluation.eval_plan import EvalRequest
from launch.run.seats.seating import Drawn

LOSSES_BEFORE_ALONE = 2
"""A group that has lost this many workers is played alone, to find the group that kills its process."""


@dataclass(slots=True, eq=False)
class GroupTask:
    """A submitted group that has not been returned yet."""

    request: GroupRequest | EvalRequest
    """Which group, or which episodes of an evaluation."""
    drawn: Drawn
    """What the arm drew for its members, for each learned seat; episodes of an evaluation have draws of their own."""
    lost_workers: int = 0
    """Number of workers that died while they played it."""

    @property
    def alone(self) -> bool:
        """Must it be played with no other group beside it?"""
        return self.lost_workers >= LOSSES_BEFORE_ALONE

    def describe(self, run: RunConfig) -> str:
        """What it plays, for messages."""
        return str(self.request) if isinstance(self.request, EvalRequest) else describe_group(run, self.request)


@dataclass(slots=True, eq=False)
class WorkerRecord:
    """The controller's record of one worker."""

    number: int
    """Its number among the workers of the run."""
    actor: Any
    """Its Ray actor."""
    playing: dict[Any, GroupTask] = field(default_factory=dict)
    """Its groups, by the reference to their answer."""
    reload: Any = None
    """The reference whose answer says that a restarted worker has the weights; None: the worker is up."""
    stuck: str = ""
    """Why its process must be replaced: the world whose calls do not end. It gets no more groups."""
    failed_starts: int = 0
    """Starts in a row in which its engine failed."""
    last_answer: float = field(default_factory=time.monotonic)
    """Time of its last answer, or of its start."""
    status: WorkerStatus | None = None
    """Its last report."""

    def __str__(self) -> str:
        location = f" ({self.status.host}, pid {self.status.pid})" if self.status else ""
        return f"worker {self.number}{location}"
