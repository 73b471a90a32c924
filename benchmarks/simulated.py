"""Simulated rollout workers: they return prepared episodes after the time that a real episode might take.

There are two kinds. In this process, a clock of their own advances only by the controller's CPU time and the simulated
durations, so the rest of the machine has no effect. As Ray actors they sleep, which includes the cost of Ray.
"""

from __future__ import annotations

import asyncio
import bisect
import heapq
import pickle
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from ray.exceptions import RayActorError

import launch.distributed.workers.rollouts
import launch.distributed.workers.worker_watch
from envs.episode import Contexts, Episode
from launch.config.study import RunConfig
from launch.distributed.weights import Form, Sent
from launch.distributed.workers.rollout_records import WorkerRecord
from launch.distributed.workers.rollout_worker import Snapshot, WeightsLoaded
from launch.distributed.workers.rollouts import RayRollouts
from launch.run.episodes import GroupDraw, GroupRequest, slots_of
from launch.run.evaluation.eval_plan import EvalPolicy
from launch.run.seeds import derive
from launch.storage.versions import versions
from shaping.arm import Arm

Busy = list[tuple[float, float]]
"""(start, end) of every episode in a slot."""


@dataclass(frozen=True)
class Load:
    """What simulated workers play. Durations are log-normal; those of a group are the same on every worker."""

    templates: Sequence[Episode]
    """Episodes to return."""
    mean: float
    """Mean seconds of an episode; 0: at once."""
    sigma: float = 0.6
    """Standard deviation of the logarithm of a duration."""
    deaths: Mapping[GroupRequest, int] = field(default_factory=dict)
    """Groups that kill their worker when they end, and how often. Workers in this process only."""

    def duration(self, request: GroupRequest, member: int) -> float:
        rng = np.random.default_rng([request.update, request.group, member])
        return float(self.mean * np.exp(self.sigma * rng.standard_normal() - self.sigma**2 / 2))

    def episode(self, run: RunConfig, request: GroupRequest, member: int, contexts: Contexts, version: int) -> Episode:
        template = self.templates[derive("template", request.update, request.group, member) % len(self.templates)]
        turns = tuple(replace(t, policy_versions=np.full_like(t.policy_versions, version)) for t in template.turns)
        return replace(template, group=request.group, contexts=contexts, arm=run.arm, turns=turns)


class Simulated(RayRollouts):
    """The queue and the records of `RayRollouts`, with simulated actors."""

    def __init__(self, run: RunConfig, arm: Arm, make_actors: Callable[[], Sequence[Any]]) -> None:
        self._make_actors = make_actors
        self.submitted: list[GroupRequest] = []
        super().__init__(run, arm, Path("none"), _Weights())

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        self.submitted += requests
        super().submit(requests)

    def _start(self) -> None:
        self._workers += [WorkerRecord(number, actor) for number, actor in enumerate(self._make_actors())]


class _Weights:
    """Some numbers in place of a policy's."""

    def send(self, form: Form, policy: EvalPolicy) -> Sent:
        return Sent({"weights": torch.zeros(1000)})

    def checksum(self, form: Form, policy: EvalPolicy, dtype: torch.dtype | None) -> str:
        return ""


def _loaded(version: int) -> WeightsLoaded:
    return WeightsLoaded(version, "", torch.float32, socket.gethostname(), versions())


# in this process -----------------------------------------------------------------------------------------------------


class Clock:
    """Seconds, advanced by waiting for workers and, with `charged`, by the controller's CPU time."""

    def __init__(self, charged: bool) -> None:
        self.now, self.cpu, self._charged = 0.0, 0.0, charged
        self.rest()

    def tick(self) -> None:
        """Add the controller's CPU time since the last `rest`."""
        spent = time.thread_time() - self._since
        self.cpu += spent
        self.now += spent * self._charged
        self.rest()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """What happens meanwhile is no work of the controller."""
        self.tick()
        yield
        self.rest()

    def rest(self) -> None:
        """Ignore the CPU time since the last `tick`: it is that of the simulation."""
        self._since = time.thread_time()


@dataclass(eq=False, slots=True)
class _Answer:
    at: float
    make: Callable[[], Any]


class _SimulatedActor:
    """A worker with slots; an episode takes the first free one."""

    def __init__(self, run: RunConfig, load: Load, clock: Clock, busy: Busy, deaths: Counter[GroupRequest]) -> None:
        self._run, self._load, self._clock, self._busy = run, load, clock, busy
        self._deaths = deaths
        self._died: list[float] = []
        self._free = [0.0] * slots_of(run)
        self._loaded: tuple[list[float], list[int]] = [], []
        self.play, self.load = (SimpleNamespace(remote=call) for call in (self._play, self._load_weights))

    def _load_weights(self, snapshot: Snapshot, transfer: None = None) -> _Answer:
        self._clock.tick()
        times, known = self._loaded
        times.append(self._clock.now)
        known.append(snapshot.version)
        self._clock.rest()
        return _Answer(self._clock.now, lambda: _loaded(snapshot.version))

    def _play(self, request: GroupRequest, drawn: GroupDraw, snapshot: Snapshot) -> _Answer:
        self._clock.tick()
        spans = []
        for member in range(self._run.train.group_size):
            start = max(heapq.heappop(self._free), self._clock.now)
            spans.append((start, start + self._load.duration(request, member)))
            heapq.heappush(self._free, spans[-1][1])
        self._busy += spans
        given, end = self._clock.now, max(stop for _, stop in spans)
        kills = self._deaths[request] > 0
        if kills:
            self._deaths[request] -= 1
            self._died.append(end)

        def made() -> list[Episode]:
            if kills or any(given <= death < end for death in self._died):
                raise RayActorError
            times, known = self._loaded
            version = [known[bisect.bisect_right(times, start) - 1] for start, _ in spans]
            return [self._load.episode(self._run, request, n, drawn.contexts, v) for n, v in enumerate(version)]

        self._clock.rest()
        return _Answer(end, made)


@contextmanager
def in_process(run: RunConfig, arm: Arm, load: Load, clock: Clock) -> Iterator[tuple[Simulated, Callable[[], Busy]]]:
    """Workers on `clock`. Answers are pickled and unpickled, like those of other processes."""
    busy: Busy = []

    def wait(answers: list[_Answer], num_returns: int = 1, timeout: float = 1) -> tuple[list[_Answer], list[_Answer]]:
        clock.tick()
        if timeout:
            times = [answer.at for answer in answers]
            clock.now = max(clock.now, min(times) if num_returns == 1 else sorted(times)[num_returns - 1])
        ready = [answer for answer in answers if answer.at <= clock.now][:num_returns]
        known = {id(answer) for answer in ready}
        rest = [answer for answer in answers if id(answer) not in known] if num_returns < len(answers) else []
        clock.rest()
        return ready, rest

    def get(answer: _Answer) -> Any:
        clock.tick()
        sent = pickle.dumps(answer.make())
        clock.rest()
        return pickle.loads(sent)

    ray = SimpleNamespace(wait=wait, get=get, put=lambda value: value, kill=lambda *_, **__: None)
    modules = (launch.distributed.workers.rollouts, launch.distributed.workers.worker_watch)
    with patch.object(modules[0], "ray", ray), patch.object(modules[1], "ray", ray):
        deaths = Counter(load.deaths)
        actors = [_SimulatedActor(run, load, clock, busy, deaths) for _ in range(run.rollout.workers)]
        yield Simulated(run, arm, lambda: actors), lambda: busy


# through Ray ---------------------------------------------------------------------------------------------------------


class Sleepers:
    """Several workers in one process: one process each would cost the machine as much time and far more memory."""

    def __init__(self, run: RunConfig, load: Load, search_path: Sequence[str]) -> None:
        sys.path += [entry for entry in search_path if entry not in sys.path]
        self._run, self._load = run, load
        self._gates = [asyncio.Semaphore(slots_of(run)) for _ in range(run.rollout.workers)]
        self._version = [-1] * run.rollout.workers
        self._spans: Busy = []

    async def load(self, number: int, snapshot: Snapshot, transfer: None = None) -> WeightsLoaded:
        await snapshot.weights[0]
        self._version[number] = max(self._version[number], snapshot.version)
        return _loaded(self._version[number])

    async def play(self, number: int, request: GroupRequest, drawn: GroupDraw, snapshot: Snapshot) -> list[Episode]:
        await self.load(number, snapshot)

        async def one(member: int) -> Episode:
            async with self._gates[number]:
                start, version = time.monotonic(), self._version[number]
                await asyncio.sleep(self._load.duration(request, member))
                self._spans.append((start, time.monotonic()))
            return self._load.episode(self._run, request, member, drawn.contexts, version)

        return list(await asyncio.gather(*(one(member) for member in range(self._run.train.group_size))))

    async def busy(self) -> Busy:
        return self._spans


@contextmanager
def through_ray(run: RunConfig, arm: Arm, load: Load, processes: int) -> Iterator[tuple[Simulated, Callable[[], Busy]]]:
    """Workers in `processes` Ray actors on this machine."""
    import ray

    ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False, configure_logging=False)
    try:
        make = ray.remote(num_cpus=1, max_concurrency=10_000)(Sleepers)
        hosts = [make.remote(run, load, sys.path) for _ in range(processes)]
        ray.get([host.busy.remote() for host in hosts])  # wait until they are up

        def call(method: Any, number: int) -> Any:
            return SimpleNamespace(remote=lambda *arguments: method.remote(number, *arguments))

        actors = [
            SimpleNamespace(**{name: call(getattr(hosts[n % processes], name), n) for name in ("play", "load")})
            for n in range(run.rollout.workers)
        ]

        def busy() -> Busy:
            return [span for spans in ray.get([host.busy.remote() for host in hosts]) for span in spans]

        yield Simulated(run, arm, lambda: actors), busy
    finally:
        ray.shutdown()
