"""The groups of a run that wait or are played, and which worker gets the next one.

With thousands of workers, whatever looks at all of them for every group would take most of the controller's time: only
workers whose room has changed are looked at.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from launch.distributed.workers.rollout_records import GroupTask, WorkerRecord

Play = Callable[[WorkerRecord, GroupTask], Any]
"""Hands a group to a worker; gives the reference to its answer."""


class GroupQueue:
    """Groups go out in the order of their submission, each to the worker with the fewest.

    Args:
        most: groups that a worker has at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.queue: deque[GroupTask] = deque()
        """Groups that no worker has."""
        self.playing: dict[Any, WorkerRecord] = {}
        """Who plays the other groups, by the reference to their answer."""
        self._roomy: set[WorkerRecord] = set()
        self._alone: set[GroupTask] = set()

    def add(self, tasks: Iterable[GroupTask]) -> None:
        """Groups to play, after all others."""
        self.queue += tasks

    def withheld(self) -> list[GroupTask]:
        """Take out all groups that no worker has."""
        held = list(self.queue)
        self.queue.clear()
        return held

    def put_back(self, task: GroupTask) -> None:
        """A group that has been handed out in vain comes next. `lost_workers` is up to date."""
        self.queue.appendleft(task)
        if task.alone:
            self._alone.add(task)

    def done(self, task: GroupTask) -> None:
        """A group has been played."""
        self._alone.discard(task)

    def admit(self, worker: WorkerRecord) -> None:
        """A worker may have room now: it is new, or up again."""
        self._roomy.add(worker)

    def taken(self, reference: Any) -> tuple[WorkerRecord, GroupTask] | None:
        """Who has answered with which group; it counts as played no longer. None: it is no group's answer."""
        if (worker := self.playing.pop(reference, None)) is None:
            return None
        self._roomy.add(worker)
        return worker, worker.playing.pop(reference)

    def clear(self) -> None:
        """Forget all groups."""
        self.queue.clear()
        self.playing.clear()
        self._alone.clear()

    def hand_out(self, workers: Sequence[WorkerRecord], play: Play) -> None:
        """Hand out as many groups as there is room for."""
        if not self.queue:
            return
        if self._alone:
            self._hand_out_apart(workers, play)
            self._roomy.update(workers)
            return
        free = [(len(w.playing), w.number, w) for w in self._roomy if _plays(w) and len(w.playing) < self._most]
        heapq.heapify(free)
        while self.queue and free:
            held, number, worker = heapq.heappop(free)
            self._hand(worker, self.queue.popleft(), play)
            if held + 1 < self._most:
                heapq.heappush(free, (held + 1, number, worker))
        self._roomy = {worker for _, _, worker in free}

    def _hand_out_apart(self, workers: Sequence[WorkerRecord], play: Play) -> None:
        """The same while there are groups that must be played with no other group beside them."""
        up = [w for w in workers if w.reload is None]
        for task in list(self.queue):
            able = [w for w in up if self._can_play(w, task)]
            if not able and not task.alone:
                return  # no worker can take any other group either
            if not able:
                if up:  # keep one worker free of new groups, or this one would wait until the queue is empty
                    up.remove(min(up, key=lambda w: len(w.playing)))
                continue
            self.queue.remove(task)
            self._hand(min(able, key=lambda w: len(w.playing)), task, play)

    def _can_play(self, worker: WorkerRecord, task: GroupTask) -> bool:
        if worker.stuck:
            return False
        if task.alone:
            return not worker.playing
        return len(worker.playing) < self._most and not any(t.alone for t in worker.playing.values())

    def _hand(self, worker: WorkerRecord, task: GroupTask, play: Play) -> None:
        reference = play(worker, task)
        worker.playing[reference] = task
        self.playing[reference] = worker


def _plays(worker: WorkerRecord) -> bool:
    return worker.reload is None and not worker.stuck
