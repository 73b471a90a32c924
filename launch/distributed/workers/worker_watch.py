"""Waiting for rollout workers: a word in the log about who is slow, and an end where nothing moves."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray

from launch.distributed.workers.rollout_records import WorkerRecord
from launch.distributed.workers.rollout_worker import WorkerFailure
from launch.run.rollouts import RolloutError

LOST_ERRORS = (
    ray.exceptions.RayActorError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
)
"""A process or a node died, and its answer is lost."""
HEARTBEAT = 30.0
"""Seconds between two lines in the log while a group is waited for."""
GRACE = 10.0
"""Seconds that workers have to send a thread dump, or to close."""


class WorkerWatch:
    """Watches `workers`, whose records the rollouts keep. `limit` is `rollout.stage_timeout`."""

    def __init__(self, workers: list[WorkerRecord], limit: float, log: Callable[[str], None]) -> None:
        self._workers, self._limit, self._log = workers, limit, log
        self.beat = min(HEARTBEAT, limit / 4)

    def wait_for(self, pending: Mapping[Any, WorkerRecord], what: str) -> list[Any]:
        """Wait for all answers. Returns the references without one after `rollout.stage_timeout` seconds."""
        started = time.monotonic()
        waiting = list(pending)
        while waiting and (waited := time.monotonic() - started) < self._limit:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=self.beat)
            if waiting and waited > self.beat:
                self._log(f"{' and '.join(str(pending[r]) for r in waiting)}: waiting for {what} for {waited:.0f} s")
        return waiting

    def heartbeat(self, waited: float, queued: int) -> None:
        """Log the slowest stage, and give up if nothing has moved for too long."""
        up = [w for w in self._workers if w.reload is None]
        pending = {w.actor.status.remote(): w for w in up}
        answered, _ = ray.wait(list(pending), num_returns=len(pending), timeout=GRACE / 2) if pending else ([], [])
        now = time.monotonic()
        for reference in answered:
            with contextlib.suppress(*LOST_ERRORS):
                pending[reference].status = ray.get(reference)
                pending[reference].last_answer = now
        slowest = max(
            ((*w.status.stages[0], w) for w in up if w.status and w.status.stages and w.playing),
            key=lambda stage: stage[0],
            default=None,
        )
        groups = sum(len(w.playing) for w in self._workers)
        text = "no episode is under way" if slowest is None else f"{slowest[2]}, {slowest[1]}, for {slowest[0]:.0f} s"
        self._log(
            f"waiting for a group for {waited:.0f} s; the slowest stage: {text}. {groups} groups under way, "
            f"{queued} queued, {len(up)} of {len(self._workers)} workers up"
        )
        limit = self._limit
        if slowest is not None and slowest[0] > limit:
            self.give_up(f"{slowest[2]} has been in one stage for {slowest[0]:.0f} s: {slowest[1]}", [slowest[2]])
        if silent := [w for w in up if w.playing and now - w.last_answer > limit]:
            self.give_up(f"{silent[0]} has not answered for {now - silent[0].last_answer:.0f} s", silent)
        if not up and min(now - w.last_answer for w in self._workers) > limit:
            self.give_up(f"no worker has come back within {limit:.0f} s", [])

    def give_up(self, problem: str, workers: Sequence[WorkerRecord]) -> None:
        """Log the thread dumps of `workers` and raise `RolloutError`."""
        pending = {w.actor.status.remote(True): w for w in workers}
        answered, _ = ray.wait(list(pending), num_returns=len(pending), timeout=GRACE) if pending else ([], [])
        for reference, worker in pending.items():
            text = "no answer: its process is stopped, or in native code"
            if reference in answered:
                with contextlib.suppress(*LOST_ERRORS):
                    text = ray.get(reference).thread_dump
            self._log(f"--- thread dump of {worker}\n{text}")
        raise RolloutError(
            f"{problem} (rollout.stage_timeout={self._limit:g}); thread dumps of the workers are in the "
            "log. Raise the timeout if the stage needs that long; run again to resume from the last saved state"
        )

    def failure(self, worker: WorkerRecord, failure: WorkerFailure) -> RolloutError:
        self._log(f"--- {worker}\n{failure.details}")
        return RolloutError(f"{worker}: {failure.message}")
