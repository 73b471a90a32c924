"""Rollouts by workers that Ray spreads over cores and machines, and starts again when they die."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from torch import Tensor

from envs.episode import Contexts
from launch.config.study import RunConfig
from launch.distributed.placement import placements
from launch.distributed.rollout_worker import Loaded, Snapshot, Status, WorkerFailure, actor
from launch.distributed.run_worker import archive as archive_model
from launch.distributed.weights import Source, form_of, own_address, pack_tensors
from launch.run.episodes import GroupRequest, describe_group, draw, slots_of
from launch.run.rollouts import RolloutError, RolloutGroup
from launch.storage.resume import say
from launch.storage.versions import differences, versions
from shaping.arm import Arm
from shaping.sampling import weights as checksums
from shaping.sampling.broadcast import Broadcaster

LOST = (
    ray.exceptions.RayActorError,
    ray.exceptions.ObjectLostError,
    ray.exceptions.WorkerCrashedError,
    ray.exceptions.NodeDiedError,
)
"""A process or a node is gone, and the answer with it."""
TOGETHER = 2
"""A group that has lost its worker so often is played alone, so that one that kills its process stands out."""
COMPARED = ("python", "packages", "source")
"""What must be alike on all nodes."""
HEARTBEAT = 30.0
GRACE = 10.0
"""Seconds that workers get to show their stacks, or to close."""


@dataclass(slots=True, eq=False)
class _Task:
    """A group that was submitted and has not come back."""

    work: GroupRequest
    drawn: Contexts
    lost: int = 0
    """How many workers have died while they played it."""

    @property
    def alone(self) -> bool:
        return self.lost >= TOGETHER


@dataclass(slots=True, eq=False)
class _Member:
    """One worker, as it is known here."""

    number: int
    handle: Any
    playing: dict[Any, _Task] = field(default_factory=dict)
    asked: Any = None
    """The answer that will say that it has come back; None if it is up."""
    failures: int = 0
    """Starts in a row that its engine has failed."""
    heard: float = field(default_factory=time.monotonic)
    """When it last answered, or was started."""
    status: Status | None = None

    def __str__(self) -> str:
        place = f" ({self.status.host}, pid {self.status.pid})" if self.status else ""
        return f"worker {self.number}{place}"


class RayRollouts:
    """`Rollouts` by `run.rollout.workers` workers. `tell` hears of lost workers, and of what is waited for long.

    Groups that a lost worker was playing are played again by another one, from their seeds, and every group comes back
    once. Raises `RolloutError` where a group loses its worker again and again, where nothing moves for
    `rollout.stage_timeout` seconds, and where a worker cannot be what it should be.
    """

    def __init__(
        self, run: RunConfig, arm: Arm, model: Path, source: Source, tell: Callable[[str], None] = say
    ) -> None:
        self._run, self._arm, self._model, self._source, self._tell = run, arm, model, source, tell
        self._config = run.rollout
        self._queue: deque[_Task] = deque()
        self._snapshot: Snapshot | None = None
        self._members: list[_Member] = []
        # its longest episode keeps a group for about twice as long as an average one takes: with fewer groups, slots
        # would be empty for want of work while stragglers hold the groups' places
        self._room = 2 * -(-slots_of(run) // run.train.group_size) + 1
        self._sender: Broadcaster | None = None
        self._held = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._held.close()
            raise

    # -- protocol ------------------------------------------------------------------------------------------------

    def submit(self, works: Sequence[GroupRequest]) -> None:
        self._queue += [_Task(work, draw(self._run, self._arm, work)) for work in works]
        self._dispatch()

    def next(self) -> RolloutGroup:
        started = beat = time.monotonic()
        while True:
            self._dispatch()
            playing = {ref: (member, task) for member in self._members for ref, task in member.playing.items()}
            if not playing and not self._queue:
                raise RolloutError("a group was asked for, but none was submitted")
            waited_for = [*playing, *(m.asked for m in self._members if m.asked is not None)]
            ready, _ = ray.wait(waited_for, num_returns=1, timeout=self._beat / 4)
            if ready and ready[0] in playing:
                member, task = playing[ready[0]]
                del member.playing[ready[0]]
                if (played := self._settled(member, task, ready[0])) is not None:
                    return played
            elif ready:
                self._risen(next(m for m in self._members if m.asked == ready[0]))
            if time.monotonic() - beat > self._beat:
                beat = time.monotonic()
                self._look(beat - started)

    def sync(self, version: int) -> None:
        """Send the weights to all workers that are up; groups under way go on with them. Others fetch them later."""
        first = self._snapshot is None
        shipped = [] if self._snapshot is None else self._snapshot.model
        state = self._source(form_of(self._run))
        self._snapshot = Snapshot(version, [ray.put(pack_tensors(state))], self._arm.state_dict(), shipped)
        for member, answer in self._load([m for m in self._members if first or m.asked is None], state):
            if isinstance(answer, WorkerFailure) and answer.model and self._ship():
                answer = next((again for _, again in self._load([member], state)), answer)
            if isinstance(answer, WorkerFailure):
                if first or not answer.engine:
                    raise self._failure(member, answer)
                self._replace(member, answer)
            elif first:
                self._check(member, answer)
        self._dispatch()

    def _load(
        self, members: Sequence[_Member], state: Mapping[str, Tensor]
    ) -> list[tuple[_Member, Loaded | WorkerFailure]]:
        """Their answers to new weights. Who dies meanwhile gets them when it comes back."""
        assert self._snapshot is not None
        sender = self._sender
        offers = {m: sender.offer(m.number, state) if sender else None for m in members}
        asked = {m.handle.load.remote(self._snapshot, offer): m for m, offer in offers.items()}
        late = self._within(asked, f"new weights (version {self._snapshot.version})")
        answers: list[tuple[_Member, Loaded | WorkerFailure]] = []
        for reference, member in asked.items():
            if reference in late:
                self._give_up(f"{member} has not taken version {self._snapshot.version} of the weights", [member])
            answer: Loaded | WorkerFailure | None = None
            try:
                answer = ray.get(reference)
                answers.append((member, answer))
            except LOST:
                self._fallen(member)
            if sender:
                sender.settle(member.number, isinstance(answer, Loaded) and not answer.missed)
            if isinstance(answer, Loaded) and answer.missed:
                self._tell(f"{member}: {answer.missed}; it has read them from the object store")
        return answers

    def _ship(self) -> bool:
        """From now on the model goes along with the weights, for nodes that lack it. False: it is not here, either."""
        assert self._snapshot is not None
        if not self._snapshot.model and self._model.is_dir():
            self._snapshot = replace(self._snapshot, model=[ray.put(archive_model(self._model))])
        return bool(self._snapshot.model)

    def workers(self) -> list[Status]:
        """Where the workers that are up run, and what they are doing."""
        asked = [m.handle.status.remote() for m in self._members if m.asked is None]
        found = []
        for reference in asked:
            with contextlib.suppress(*LOST, ray.exceptions.GetTimeoutError):
                found.append(ray.get(reference, timeout=GRACE))
        return found

    def close(self) -> None:
        self._queue.clear()
        with contextlib.suppress(Exception):
            closing = [m.handle.close.remote() for m in self._members if m.asked is None and self._snapshot]
            if closing:  # engines end their own processes and remove their files
                ray.wait(closing, num_returns=len(closing), timeout=GRACE)
        for member in self._members:
            with contextlib.suppress(Exception):
                ray.kill(member.handle)
        self._members.clear()
        self._held.close()

    # -- workers -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        if not ray.is_initialized():
            from launch.distributed.local import RaySettings, running_ray

            self._held.enter_context(running_ray(RaySettings(address=os.environ.get("RAY_ADDRESS"))))
        config = self._config
        places = self._held.enter_context(placements(self._run, self._tell))
        if config.transfer == "broadcast":  # a worker that gets nothing must have time left for the other way
            # once there are placements: the nodes that have them say which address is needed
            self._sender = self._held.enter_context(
                contextlib.closing(Broadcaster(own_address(), config.stage_timeout / 4))
            )
        search_path = (os.getcwd(), *(place for place in sys.path if place))
        make = actor()
        for number, place in enumerate(places):
            options = make.options(num_cpus=config.cpus or 0.01, num_gpus=config.gpus, scheduling_strategy=place)
            self._members.append(_Member(number, options.remote(self._run, self._model, search_path)))

    @property
    def _beat(self) -> float:
        return min(HEARTBEAT, self._config.stage_timeout / 4)

    def _check(self, member: _Member, loaded: Loaded) -> None:
        """At the first sync of a process: does it run what we run, and hold what the learner holds?"""
        own, theirs = ({k: v for k, v in told.items() if k in COMPARED} for told in (versions(), loaded.versions))
        if changed := differences(own, theirs):
            found = f"{member} does not run what this process runs (here -> there): {'; '.join(changed[:5])}"
            if own.get("packages") != theirs.get("packages") or loaded.host != socket.gethostname():
                raise RolloutError(f"{found}. Install the same packages and the same source on every node")
            self._tell(f"{found}: the source has been edited since")
        if self._snapshot is not None and loaded.version != self._snapshot.version:
            return  # the learner has newer weights by now
        form = form_of(self._run)
        whole = self._source("modules" if form == "lora" else form)
        dtype = None if form == "adapter" else loaded.dtype
        if loaded.checksum and loaded.checksum != checksums.checksum(whole, dtype):
            raise RolloutError(
                f"{member} does not sample with the learner's weights: their checksums differ after its first sync. "
                "Please report this with the run's config"
            )

    def _dispatch(self) -> None:
        """Hand out groups, the oldest first, each to the worker that plays the fewest."""
        if self._snapshot is None:
            return
        up = [m for m in self._members if m.asked is None]
        for task in list(self._queue):
            able = [m for m in up if self._takes(m, task)]
            if not able and not task.alone:
                return  # nor can anyone take any other
            if not able:
                if up:  # else it would wait for as long as there are others to play: let one worker run dry
                    up.remove(min(up, key=lambda m: len(m.playing)))
                continue
            member = min(able, key=lambda m: len(m.playing))
            self._queue.remove(task)
            member.playing[member.handle.play.remote(task.work, task.drawn, self._snapshot)] = task

    def _takes(self, member: _Member, task: _Task) -> bool:
        if task.alone:
            return not member.playing
        return len(member.playing) < self._room and not any(t.alone for t in member.playing.values())

    def _settled(self, member: _Member, task: _Task, reference: Any) -> RolloutGroup | None:
        """The group, if it was played; else it is queued again."""
        try:
            answer = ray.get(reference)
        except LOST:
            self._fallen(member)
            self._again(task, "its process or its node died (killed, out of memory, or a crash in native code)")
            return None
        member.heard = time.monotonic()
        if isinstance(answer, WorkerFailure):
            if answer.model and self._ship():
                self._queue.appendleft(task)
                return None
            if not answer.engine:
                raise self._failure(member, answer)
            self._replace(member, answer)
            self._again(task, answer.told)
            return None
        return RolloutGroup(task.work, answer)

    def _again(self, task: _Task, why: str) -> None:
        task.lost += 1
        what = describe_group(self._run, task.work)
        if task.lost >= self._config.retries:
            alone = max(task.lost - TOGETHER, 0)
            raise RolloutError(
                f"{what} has lost its worker {task.lost} times (rollout.retries), the last {alone} times with no other "
                f"group beside it: {why}. Does the world end its process? Play it by itself to see: its seed says all"
            )
        self._queue.appendleft(task)

    def _replace(self, member: _Member, failure: WorkerFailure) -> None:
        """The worker's engine is broken: end it, and let Ray start it anew."""
        self._tell(f"{member}: {failure.told}; it starts anew")
        ray.kill(member.handle, no_restart=False)
        member.heard = time.monotonic()
        self._ask(member)

    def _fallen(self, member: _Member) -> None:
        """It died, and Ray starts it anew; the other groups that it was playing are told in turn."""
        if member.asked is None:
            self._tell(f"{member} died; what it was playing is played again")
            member.heard = time.monotonic()
            self._ask(member)

    def _ask(self, member: _Member) -> None:
        """It is up once it has the weights: what dies before that takes no group with it."""
        member.asked, member.status = member.handle.load.remote(self._snapshot), None

    def _risen(self, member: _Member) -> None:
        try:
            answer = ray.get(member.asked)
        except LOST:
            # still on its way; if it never comes back, stage_timeout ends the wait
            time.sleep(0.1)
            self._ask(member)
            return
        if not isinstance(answer, WorkerFailure):
            self._check(member, answer)
            member.asked, member.failures, member.heard = None, 0, time.monotonic()
        elif answer.model and self._ship():
            self._ask(member)
        else:
            member.failures += 1
            if not answer.engine or member.failures >= self._config.retries:
                raise self._failure(member, answer)
            self._replace(member, answer)

    # -- waiting -------------------------------------------------------------------------------------------------

    def _within(self, asked: Mapping[Any, _Member], what: str) -> list[Any]:
        """Wait for all; those that have not answered in time."""
        started = time.monotonic()
        waiting = list(asked)
        while waiting and (waited := time.monotonic() - started) < self._config.stage_timeout:
            _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=self._beat)
            if waiting and waited > self._beat:
                self._tell(f"{' and '.join(str(asked[r]) for r in waiting)}: waiting for {what} for {waited:.0f} s")
        return waiting

    def _look(self, waited: float) -> None:
        """A heartbeat: say what takes longest, and give up where nothing has moved for too long."""
        up = [m for m in self._members if m.asked is None]
        asked = {m.handle.status.remote(): m for m in up}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=GRACE / 2) if asked else ([], [])
        now = time.monotonic()
        for reference in answered:
            with contextlib.suppress(*LOST):
                asked[reference].status = ray.get(reference)
                asked[reference].heard = now
        slowest = max(
            ((*m.status.stages[0], m) for m in up if m.status and m.status.stages and m.playing),
            key=lambda stage: stage[0],
            default=None,
        )
        groups = sum(len(m.playing) for m in self._members)
        told = "no episode is under way" if slowest is None else f"{slowest[2]}, {slowest[1]}, for {slowest[0]:.0f} s"
        self._tell(
            f"waiting for a group for {waited:.0f} s; the slowest stage: {told}. {groups} groups under way, "
            f"{len(self._queue)} queued, {len(up)} of {len(self._members)} workers up"
        )
        limit = self._config.stage_timeout
        if slowest is not None and slowest[0] > limit:
            self._give_up(f"{slowest[2]} has been in one stage for {slowest[0]:.0f} s: {slowest[1]}", [slowest[2]])
        if silent := [m for m in up if m.playing and now - m.heard > limit]:
            self._give_up(f"{silent[0]} has not answered for {now - silent[0].heard:.0f} s", silent)
        if not up and min(now - m.heard for m in self._members) > limit:
            self._give_up(f"no worker has come back within {limit:.0f} s", [])

    def _give_up(self, what: str, members: Sequence[_Member]) -> None:
        asked = {m.handle.status.remote(True): m for m in members}
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=GRACE) if asked else ([], [])
        for reference, member in asked.items():
            stacks = "no answer to this either: its process is stopped, or in native code"
            if reference in answered:
                with contextlib.suppress(*LOST):
                    stacks = ray.get(reference).thread_dump
            self._tell(f"--- stacks of {member}\n{stacks}")
        raise RolloutError(
            f"{what} (rollout.stage_timeout={self._config.stage_timeout:g}); the workers' stacks are in the log. Raise "
            "it if so much time is needed; run again to go on from the last saved state"
        )

    def _failure(self, member: _Member, failure: WorkerFailure) -> RolloutError:
        self._tell(f"--- {member}\n{failure.details}")
        return RolloutError(f"{member}: {failure.told}")
