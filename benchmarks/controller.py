"""Controller: what it costs and how idle it leaves its workers, with 64 of them that play nothing but take their time.

`python -m benchmarks.controller [--json FILE]`. The loop, the queue, seats, ledger, staleness, credit and audit are
those of a run; workers (`benchmarks.simulated`) and the learner, which learns nothing, are not.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import pickle
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.learning import _resident
from benchmarks.quickstart import QUICK, UNSHAPED, organism
from benchmarks.simulated import Busy, Clock, Load, Simulated, in_process, through_ray
from benchmarks.table import Row, main
from envs.episode import Contexts, Episode
from envs.personas.persona import persona
from launch.config.loading import parse_study
from launch.config.plugins import build_reward, build_world
from launch.config.study import RunConfig
from launch.run.episodes import GroupRequest
from launch.run.ledger import Ledger
from launch.run.rollouts import RolloutScheduler
from launch.run.trainer import Trainer
from shaping.learning.policy import Policy
from shaping.learning.sample import Sample
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.render import Renderer
from shaping.sampling.scripted_engine import ScriptedEngine

GROUPS, SIZE = 100, 4
STEWARD = {"size": 4, "horizon": 20}
PERSONAS = ("honest", "opportunist")
MARKS = (0.1, 0.5, 1.0)
"""Shares of a run after which memory is measured."""


def config(workers: int, updates: int, staleness: int) -> RunConfig:
    worlds = {"steward": STEWARD}
    document = {
        "name": "controller",
        "seeds": 1,
        "train": {"worlds": worlds, "updates": updates, "groups": GROUPS, "group_size": SIZE},
        "eval": {"worlds": worlds},
        "rollout": {"workers": workers, "slots": SIZE, "max_staleness": staleness},
        "arms": {"unshaped": {"role": "reference"}},
    }
    return parse_study(document, "benchmark").runs()[0]


def templates(renderer: Renderer, count: int = 16) -> list[Episode]:
    """Episodes of scripted personas, honest and not."""
    played: list[Episode] = []
    for number in range(count):
        who = persona(PERSONAS[number % len(PERSONAS)])
        engine = ScriptedEngine(lambda env, who=who, number=number: who(env, number), renderer)  # type: ignore[misc]
        request = EpisodeRequest(
            make=lambda: build_world("steward", STEWARD, "worlds"), seed=number // 2, options=STEWARD
        )
        played += asyncio.run(play([request], engine, renderer, UNSHAPED))
    return played


@dataclass
class Idle:
    """A learner that learns nothing, at once."""

    version: int = 0

    def update(self, samples: Sequence[Sample]) -> dict[str, float]:
        self.version += 1
        return {}

    def values(self, samples: Sequence[Sample]) -> Any:
        raise NotImplementedError("no algorithm with a critic is measured here")


class Loop(Trainer):
    """The trainer without a model."""

    def __init__(self, run: RunConfig, renderer: Renderer, rollouts: Simulated) -> None:
        self.run, self.arm, self.renderer, self.rollouts = run, UNSHAPED, renderer, rollouts
        self.reward = build_reward(run.arm, run.arm_config)
        self.learner = Idle()  # type: ignore[assignment]
        self.scheduler = RolloutScheduler(rollouts, run.train.groups, run.rollout.max_staleness)
        self.ledger = Ledger()
        self._synced = False


@dataclass
class Measured:
    """One run. Seconds are those of the workers' clock."""

    episodes: int
    stale: int
    seconds: float
    idle: float
    """Share of the slots' time, while there was work left to hand out, in which no episode was in them."""
    ideal: float
    """Seconds that the same episodes take where whichever slot is free takes the next, at no cost."""
    resident: list[tuple[int, float]] = field(default_factory=list)
    """(episodes so far, MiB) at each of `MARKS`."""


Workers = AbstractContextManager[tuple[Simulated, Callable[[], Busy]]]


def measure(run: RunConfig, load: Load, renderer: Renderer, workers: Workers, now: Callable[[], float]) -> Measured:
    resident: list[tuple[int, float]] = []
    marks = [max(round(run.train.updates * share), 1) for share in MARKS]
    with workers as (rollouts, busy):
        loop = Loop(run, renderer, rollouts)
        loop._sync()
        start = now()
        for update in range(run.train.updates):
            loop.update(update)
            if update + 1 in marks:
                gc.collect()
                resident.append((loop.ledger.episodes, _resident("VmRSS:")))
        seconds = now() - start
        loop.check_ledger()
        spans = busy()
    slots = run.rollout.workers * SIZE
    last = max(begin for begin, _ in spans)
    taken = sum(min(stop, last) - max(begin, start) for begin, stop in spans if begin < last)
    idle = 1 - taken / (slots * (last - start)) if last > start else 0.0
    durations = [load.duration(work, member) for work in rollouts.handed for member in range(SIZE)]
    return Measured(loop.ledger.episodes, loop.ledger.stale, seconds, idle, makespan(durations, slots), resident)


def makespan(durations: Sequence[float], slots: int) -> float:
    """Seconds until all are done, in order, each in the slot that is free first."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def plain(run: RunConfig, load: Load) -> float:
    """CPU seconds per episode of a bare asyncio loop: slots that take from a queue, and groups collected from it."""
    works = [GroupRequest(update, group) for update in range(run.train.updates) for group in range(GROUPS)]
    sent = pickle.dumps([load.episode(run, works[0], n, Contexts(), 0) for n in range(SIZE)])
    groups: list[list[Episode]] = []

    async def all_of_them() -> None:
        queue: asyncio.Queue[GroupRequest] = asyncio.Queue()
        for work in works:
            queue.put_nowait(work)

        async def worker() -> None:
            while not queue.empty():
                queue.get_nowait()
                await asyncio.sleep(0)
                groups.append(pickle.loads(sent))
                del groups[:-GROUPS]

        await asyncio.gather(*(worker() for _ in range(run.rollout.workers)))

    start = time.thread_time()
    asyncio.run(all_of_them())
    return (time.thread_time() - start) / (len(works) * SIZE)


def benchmark(quick: bool) -> list[Row]:
    """Controller: cost per episode, idle workers and memory, with simulated workers in this process and through Ray."""
    workers, updates = (4, 3) if quick else (64, 25)
    renderer = Renderer(Policy.load(organism(QUICK)).tokenizer)
    made = templates(renderer)
    at_once, slow = Load(made, 0.0), Load(made, 10.0)
    print(f"{workers} workers of {SIZE} slots, {updates} updates of {GROUPS} x {SIZE} episodes of", end=" ")
    print(f"{np.mean([len(e.turns) for e in made]):.0f} turns and {np.mean([len(e.tokens) for e in made]):.0f} tokens")

    rows: list[Row] = []
    for staleness in (2,) if quick else (2, 1, 0):  # the first is the one whose memory is looked at
        run, clock = config(workers, updates, staleness), Clock(charged=True)
        found = measure(run, slow, renderer, in_process(run, UNSHAPED, slow, clock), partial(getattr, clock, "now"))
        rows += idle_rows(f"in process, staleness {staleness}", found)
        rows += memory_rows("in process", found) if staleness == 2 else []
    rows.append(cost(config(workers, updates, 2), at_once, renderer))
    if not quick:
        run, load = config(workers, updates, 2), Load(made, 2.0)
        found = measure(run, load, renderer, through_ray(run, UNSHAPED, load, 4), time.monotonic)
        rows += idle_rows("Ray, staleness 2", found) + memory_rows("Ray", found)
    return rows


def cost(run: RunConfig, load: Load, renderer: Renderer) -> Row:
    """Where workers answer at once, what is left is the controller."""
    clock = Clock(charged=True)
    found = measure(run, load, renderer, in_process(run, UNSHAPED, load, clock), lambda: clock.now)
    ours, peer = 1e6 * clock.cpu / found.episodes, 1e6 * plain(run, load)
    return Row("controller per episode, credit and audit included", ours, peer, "us", peer / ours)


def idle_rows(name: str, found: Measured) -> list[Row]:
    target = "ours < 5" if name.endswith("2") else ""
    print(f"{name}: {found.episodes} episodes, {found.stale} of them stale, in {found.seconds:.1f} s")
    ours, ideal = found.episodes / found.seconds, found.episodes / found.ideal
    return [
        Row(f"{name}: idle", 100 * found.idle, unit="%", target=target),
        Row(f"{name}: ideal schedule", ours, ideal, "episodes/s", ours / ideal),
    ]


def memory_rows(name: str, found: Measured) -> list[Row]:
    (_, first), *_, (_, last) = found.resident
    grown = 100 * max(last - first, 0.0) / first
    return [
        *(Row(f"{name}: memory after {episodes:,} episodes", held, unit="MiB") for episodes, held in found.resident),
        Row(f"{name}: growth of memory after the first tenth", grown, unit="%", target="ours < 5"),
    ]


if __name__ == "__main__":
    main(benchmark)
