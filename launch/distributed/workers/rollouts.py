"""Rollouts by Ray actors on many cores and machines. Dead workers are restarted, and their groups played again."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from torch import Tensor

from envs.episode import Episode, RolloutStatus
from launch.config.study import RunConfig
from launch.distributed.local import joined_ray
from launch.distributed.placement import worker_placements
from launch.distributed.run_worker import archive_model
from launch.distributed.weights import Sent, WeightSource, form_of, own_address, pack_tensors, unpack_tensors
from launch.distributed.workers.group_queue import GroupQueue
from launch.distributed.workers.rollout_records import LOSSES_BEFORE_ALONE, GroupTask, WorkerRecord
from launch.distributed.workers.rollout_worker import Snapshot, WeightsLoaded, WorkerFailure, WorkerStatus, worker_actor
from launch.distributed.workers.worker_watch import GRACE, LOST_ERRORS, WorkerWatch
from launch.run.episodes import GroupDraw, GroupRequest, group_slots, slots_of
from launch.run.evaluation.eval_plan import EvalPolicy, EvalRequest, active_adapters
from launch.run.models.adapters import adapters_of
from launch.run.rollouts import RolloutError, RolloutGroup
from launch.run.seats.seating import draw_group
from launch.storage.resume import log_to_stderr
from launch.storage.versions import differences, versions
from shaping.arm import Arm
from shaping.sampling.transfer.broadcast import Broadcaster

COMPARED_VERSIONS = ("python", "packages", "source")
"""Versions that must be equal on all nodes."""


class RayRollouts:
    """`Rollouts` by `run.rollout.workers` workers.

    If a worker dies, its groups are played again from their seeds; every group is returned once. `log` receives lost
    workers and long waits. `RolloutError` is raised if a group loses worker after worker, if nothing moves for
    `rollout.stage_timeout` seconds, and if a worker's software or weights differ from the learner's.
    """

    def __init__(
        self,
        run: RunConfig,
        arm: Arm,
        model: Path,
        source: WeightSource,
        log: Callable[[str], None] = log_to_stderr,
    ) -> None:
        self._run, self._arm, self._model, self._source, self._log = run, arm, model, source, log
        self._config = run.rollout
        self._snapshot: Snapshot | None = None
        self._workers: list[WorkerRecord] = []
        self._finished: deque[RolloutGroup] = deque()
        self._watch = WorkerWatch(self._workers, run.rollout.stage_timeout, log)
        # A group ends with its longest episode, after about twice the time of an average one. A worker with fewer
        # groups than this would have empty slots while stragglers hold its groups open.
        self._groups = GroupQueue(2 * -(-slots_of(run) // group_slots(run)) + 1)
        self._answered: deque[Any] = deque()
        self._broadcaster: Broadcaster | None = None
        self._resources = contextlib.ExitStack()
        try:
            self._start()
        except BaseException:
            self._resources.close()
            raise
        for worker in self._workers:
            self._groups.admit(worker)

    # -- protocol ------------------------------------------------------------------------------------------------

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        """Start playing these groups."""
        self._groups.add(GroupTask(request, draw_group(self._run, self._arm, request)) for request in requests)
        self._train_on()
        self._dispatch()

    def next(self) -> RolloutGroup:
        """Wait for a finished group, in any order."""
        if self._finished:
            return self._finished.popleft()
        self._train_on()
        request, episodes = self._next()
        assert isinstance(request, GroupRequest)
        return RolloutGroup(request, episodes)

    def _next(self) -> tuple[GroupRequest | EvalRequest, list[Episode]]:
        started = beat = time.monotonic()
        while True:
            self._dispatch()
            reference = self._next_answer()
            if (played := self._groups.taken(reference)) is not None:
                if (episodes := self._collect(*played, reference)) is not None:
                    return played[1].request, episodes
            elif reference is not None:
                for restarted in [w for w in self._workers if w.reload == reference]:
                    self._on_restarted(restarted)
            if time.monotonic() - beat > self._watch.beat:
                beat = time.monotonic()
                self._watch.heartbeat(beat - started, len(self._groups.queue))

    def evaluate(
        self, version: int, policy: EvalPolicy, requests: Sequence[EvalRequest], *, fresh: bool = False
    ) -> list[list[Episode]]:
        """Play these episodes with the adapters and edits of `policy`. In the order of `requests`.

        Groups under way are waited for, and returned by `next` later; those that are queued wait. `version` is the
        learner's, and `fresh` says that its weights have changed though the version has not.
        """
        held = self._groups.withheld()
        while self._groups.queue or self._groups.playing:
            request, episodes = self._next()
            assert isinstance(request, GroupRequest)
            self._finished.append(RolloutGroup(request, episodes))
        self._groups.add(GroupTask(request, GroupDraw()) for request in requests)
        self._serve(version, policy, fresh=fresh)
        played: dict[int, list[Episode]] = {}
        for _ in requests:
            request, episodes = self._next()
            assert isinstance(request, EvalRequest)
            played[request.number] = episodes
        if held:
            self._groups.add(held)
            self._train_on()
            self._dispatch()
        return [played[request.number] for request in requests]

    def sync(self, version: int) -> None:
        """Send the weights to all workers that are up, also for groups under way. Restarting workers get them later."""
        self._serve(version, "sampling", fresh=True)

    def _train_on(self) -> None:
        """Sample as in training again, after an evaluation with other adapters or edits."""
        if self._snapshot is not None and self._snapshot.policy != "sampling":
            self._serve(self._snapshot.version, "sampling")

    def _serve(self, version: int, policy: EvalPolicy, *, fresh: bool = False) -> None:
        """Let all workers sample as `policy` says. Weights are sent if they are `fresh`, of another version, or if
        those that are sent depend on the adapters that are on.
        """
        first, last = self._snapshot is None, self._snapshot
        if last is not None and not fresh and last.version == version and self._alike(last.policy, policy):
            self._snapshot = replace(last, number=last.number + 1, policy=policy, arm_state=self._arm.state_dict())
            sent = None
        else:
            sent = self._source.send(form_of(self._run), policy)
            reference = ray.put(pack_tensors(sent.tensors or {})) if sent.reference is None else sent.reference
            number = 0 if last is None else last.number + 1
            shipped = [] if last is None else last.model
            self._snapshot = Snapshot(version, [reference], self._arm.state_dict(), shipped, number, number, policy)
        state = self._to_broadcast(sent)
        for worker, answer in self._load([w for w in self._workers if first or w.reload is None], state):
            if isinstance(answer, WorkerFailure) and answer.model_missing and self._ship_model():
                answer = next((second for _, second in self._load([worker], state)), answer)
            if isinstance(answer, WorkerFailure):
                if first or not answer.engine_failed:
                    raise self._watch.failure(worker, answer)
                self._restart(worker, answer)
            elif first:
                self._check(worker, answer)
        self._dispatch()

    def _alike(self, one: EvalPolicy, other: EvalPolicy) -> bool:
        """Are the same weights sent for both?"""
        specs = adapters_of(self._run, self._arm)
        separate = form_of(self._run) in ("modules", "lora")
        return separate or active_adapters(specs, one) == active_adapters(specs, other)

    def _to_broadcast(self, sent: Sent | None) -> Mapping[str, Tensor] | None:
        """The tensors for the broadcast, if there is one."""
        if sent is None or self._broadcaster is None:
            return None
        return unpack_tensors(ray.get(sent.reference)) if sent.tensors is None else sent.tensors

    def _load(
        self, workers: Sequence[WorkerRecord], state: Mapping[str, Tensor] | None
    ) -> list[tuple[WorkerRecord, WeightsLoaded | WorkerFailure]]:
        """Send new weights and return the answers. A worker that dies here gets the weights after its restart."""
        assert self._snapshot is not None
        broadcaster = self._broadcaster if state is not None else None
        transfers = {w: broadcaster.offer(w.number, state) if broadcaster and state else None for w in workers}
        pending = {w.actor.load.remote(self._snapshot, transfer): w for w, transfer in transfers.items()}
        late = self._watch.wait_for(pending, f"new weights (version {self._snapshot.version})")
        answers: list[tuple[WorkerRecord, WeightsLoaded | WorkerFailure]] = []
        for reference, worker in pending.items():
            if reference in late:
                self._watch.give_up(
                    f"{worker} has not loaded version {self._snapshot.version} of the weights", [worker]
                )
            answer: WeightsLoaded | WorkerFailure | None = None
            try:
                answer = ray.get(reference)
                answers.append((worker, answer))
            except LOST_ERRORS:
                self._on_died(worker)
            if broadcaster:
                broadcaster.settle(worker.number, isinstance(answer, WeightsLoaded) and not answer.transfer_error)
            if isinstance(answer, WeightsLoaded) and answer.transfer_error:
                self._log(f"{worker}: {answer.transfer_error}; it has read them from the object store")
        return answers

    def _ship_model(self) -> bool:
        """Send the model with the weights from now on, for nodes that lack it. False if it is not here either."""
        assert self._snapshot is not None
        if not self._snapshot.model and self._model.is_dir():
            self._snapshot = replace(self._snapshot, model=[ray.put(archive_model(self._model))])
        return bool(self._snapshot.model)

    def workers(self) -> list[WorkerStatus]:
        """The status of every worker that is up."""
        pending = [w.actor.status.remote() for w in self._workers if w.reload is None]
        statuses = []
        for reference in pending:
            with contextlib.suppress(*LOST_ERRORS, ray.exceptions.GetTimeoutError):
                statuses.append(ray.get(reference, timeout=GRACE))
        return statuses

    def close(self) -> None:
        """End the workers and release their placement group."""
        self._groups.clear()
        self._answered.clear()
        with contextlib.suppress(Exception):
            closing = [w.actor.close.remote() for w in self._workers if w.reload is None and self._snapshot]
            if closing:  # engines end their own processes and remove their files
                ray.wait(closing, num_returns=len(closing), timeout=GRACE)
        for worker in self._workers:
            with contextlib.suppress(Exception):
                ray.kill(worker.actor)
        self._workers.clear()
        self._resources.close()

    # -- workers -------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self._resources.enter_context(joined_ray())
        config = self._config
        placements = self._resources.enter_context(worker_placements(self._run, self._log))
        if config.transfer == "broadcast":
            # After the placement, since the nodes decide which address is needed. A quarter of the timeout leaves a
            # worker that gets nothing the time to read the weights from the object store.
            self._broadcaster = self._resources.enter_context(
                contextlib.closing(Broadcaster(own_address(), config.stage_timeout / 4))
            )
        search_path = (os.getcwd(), *(entry for entry in sys.path if entry))
        actor = worker_actor()
        for number, placement in enumerate(placements):
            options = actor.options(num_cpus=config.cpus or 0.01, num_gpus=config.gpus, scheduling_strategy=placement)
            self._workers.append(WorkerRecord(number, options.remote(self._run, self._model, search_path)))

    def _check(self, worker: WorkerRecord, loaded: WeightsLoaded) -> None:
        """Compare the software and weights of a newly started worker with those of this process."""
        ours, theirs = (
            {key: value for key, value in recorded.items() if key in COMPARED_VERSIONS}
            for recorded in (versions(), loaded.versions)
        )
        if changed := differences(ours, theirs):
            message = f"{worker} runs other software than this process (here -> there): {'; '.join(changed[:5])}"
            if ours.get("packages") != theirs.get("packages") or loaded.host != socket.gethostname():
                raise RolloutError(f"{message}. Install the same packages and the same source on every node")
            self._log(f"{message}: the source was edited after the start of this process")
        if self._snapshot is not None and loaded.version != self._snapshot.version:
            return  # the learner has newer weights by now
        form = form_of(self._run)
        dtype = None if form == "adapter" else loaded.dtype
        policy = "sampling" if self._snapshot is None else self._snapshot.policy
        if loaded.checksum and loaded.checksum != self._source.checksum(form, policy, dtype):
            raise RolloutError(
                f"{worker} does not sample with the learner's weights: the checksums differ after its first sync. "
                "Please report this with the run's config"
            )

    def _next_answer(self) -> Any:
        """The reference of an answer that has come, of a group or of a restarted worker; None: none comes for now.

        All answers that are there are noted at once: a look at all that are pending costs as much as for one.
        """
        if not self._answered:
            pending = [*self._groups.playing, *(w.reload for w in self._workers if w.reload is not None)]
            if not pending and not self._groups.queue:
                raise RolloutError("a group was asked for, but none was submitted")
            ready, waiting = ray.wait(pending, num_returns=1, timeout=self._watch.beat / 4)
            if ready and waiting:
                ready += ray.wait(waiting, num_returns=len(waiting), timeout=0)[0]
            self._answered += ready
        return self._answered.popleft() if self._answered else None

    def _dispatch(self) -> None:
        if self._snapshot is not None:
            self._groups.hand_out(self._workers, self._play)

    def _play(self, worker: WorkerRecord, task: GroupTask) -> Any:
        return worker.actor.play.remote(task.request, task.drawn, self._snapshot)

    def _collect(self, worker: WorkerRecord, task: GroupTask, reference: Any) -> list[Episode] | None:
        """The episodes of a finished group, or None if its worker failed and the group is queued again."""
        try:
            answer = ray.get(reference)
        except LOST_ERRORS:
            self._on_died(worker)
            self._requeue(task, "its process or its node died (killed, out of memory, or a crash in native code)")
            return None
        worker.last_answer = time.monotonic()
        if isinstance(answer, WorkerFailure):
            if answer.model_missing and self._ship_model():
                self._groups.put_back(task)
                return None
            if not answer.engine_failed:
                raise self._watch.failure(worker, answer)
            self._restart(worker, answer)
            self._requeue(task, answer.message)
            return None
        if any(episode.status is RolloutStatus.ERROR_TIMEOUT for episode in answer):
            self._look_for_stuck_calls(worker)
        if worker.stuck and not worker.playing:
            self._restart(worker, WorkerFailure(worker.stuck, "", engine_failed=False))
        self._groups.done(task)
        return list(answer)

    def _look_for_stuck_calls(self, worker: WorkerRecord) -> None:
        """A worker in which late calls of a class do not end plays its groups to the end, and is then replaced."""
        try:
            status: WorkerStatus = ray.get(worker.actor.status.remote(), timeout=GRACE)
        except (*LOST_ERRORS, ray.exceptions.GetTimeoutError):
            return
        if status.stuck:
            worker.stuck = f"calls of {' and '.join(status.stuck)} do not end, though they are over their time limit"

    def _requeue(self, task: GroupTask, reason: str) -> None:
        task.lost_workers += 1
        if task.lost_workers >= self._config.retries:
            alone = max(task.lost_workers - LOSSES_BEFORE_ALONE, 0)
            raise RolloutError(
                f"{task.describe(self._run)} has lost its worker {task.lost_workers} times "
                f"(rollout.retries), the last {alone} times with no other group beside it: {reason}. Does the world "
                "end its process? Replay this seed alone to check"
            )
        self._groups.put_back(task)

    def _restart(self, worker: WorkerRecord, failure: WorkerFailure) -> None:
        """Kill a worker whose engine failed, so that Ray restarts it."""
        self._log(f"{worker}: {failure.message}; it is restarted")
        ray.kill(worker.actor, no_restart=False)
        worker.last_answer = time.monotonic()
        self._reload(worker)

    def _on_died(self, worker: WorkerRecord) -> None:
        """The worker died; Ray restarts it and its other groups are requeued."""
        if worker.reload is None:
            self._log(f"{worker} died; its groups are played again")
            worker.last_answer = time.monotonic()
            self._reload(worker)

    def _reload(self, worker: WorkerRecord) -> None:
        """Send the weights. The worker gets no group before it has them, so a second death loses none."""
        worker.reload, worker.status, worker.stuck = worker.actor.load.remote(self._snapshot), None, ""

    def _on_restarted(self, worker: WorkerRecord) -> None:
        try:
            answer = ray.get(worker.reload)
        except LOST_ERRORS:  # not up yet; stage_timeout ends the wait for a worker that never is
            time.sleep(0.1)
            self._reload(worker)
            return
        if not isinstance(answer, WorkerFailure):
            self._check(worker, answer)
            worker.reload, worker.failed_starts, worker.last_answer = None, 0, time.monotonic()
            self._groups.admit(worker)
        elif answer.model_missing and self._ship_model():
            self._reload(worker)
        else:
            worker.failed_starts += 1
            if not answer.engine_failed or worker.failed_starts >= self._config.retries:
                raise self._watch.failure(worker, answer)
            self._restart(worker, answer)
