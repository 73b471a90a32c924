"""Controller: its cost, and how idle it leaves 64 and 1,000 simulated workers.

`python -m benchmarks.controller [--json FILE]`. Loop, queue, placement, ledger, staleness, credit and audit are those
of a run. Workers are simulated (`benchmarks.simulated`), and the learner learns nothing.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import pickle
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from launch.run.evaluation.monitors import TrainingMonitors
from launch.run.rollouts import RolloutScheduler
from launch.run.trainer import Trainer
from launch.train import update
from shaping.hooks import Activations
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample
from shaping.sampling.play import EpisodeRequest, play
from shaping.sampling.scripted_engine import ScriptedEngine
from shaping.sampling.text.render import Renderer

GROUPS, SIZE = 100, 4
MANY = 1000
"""Workers of the large run."""
FLAT = "ratio >= 0.9"
"""The controller's time per episode may grow by a tenth from few workers to many."""
STEWARD = {"size": 4, "horizon": 20}
PERSONAS = ("honest", "opportunist")
MARKS = (0.1, 0.5, 1.0)
"""Memory is measured after these shares of a run."""


def config(workers: int, updates: int, staleness: int, groups: int = GROUPS) -> RunConfig:
    worlds = {"steward": STEWARD}
    document = {
        "name": "controller",
        "seeds": 1,
        "train": {"worlds": worlds, "updates": updates, "groups": groups, "group_size": SIZE},
        "eval": {"worlds": worlds},
        "rollout": {"workers": workers, "slots": SIZE, "max_staleness": staleness},
        "arms": {"unshaped": {"role": "reference"}},
    }
    return parse_study(document, "benchmark").runs()[0]


def templates(renderer: Renderer, count: int = 16) -> list[Episode]:
    """Episodes of an honest and a dishonest scripted persona."""
    played: list[Episode] = []
    for number in range(count):
        script = persona(PERSONAS[number % len(PERSONAS)])
        engine = ScriptedEngine(lambda env, script=script, number=number: script(env, number), renderer)  # type: ignore[misc]
        request = EpisodeRequest(
            make=lambda: build_world("steward", STEWARD, "worlds"), seed=number // 2, options=STEWARD
        )
        played += asyncio.run(play([request], engine, renderer, UNSHAPED))
    return played


@dataclass
class Idle:
    """A learner that returns at once and learns nothing."""

    version: int = 0
    activations: Mapping[str, Activations] = field(default_factory=dict)

    def update(self, samples: Sequence[Sample]) -> dict[str, float]:
        self.version += 1
        return {}

    def values(self, samples: Sequence[Sample]) -> Any:
        raise NotImplementedError("no algorithm with a critic is measured here")

    def logprobs(self, samples: Sequence[Sample]) -> list[float]:
        raise NotImplementedError("no stage on pairs of answers is measured here")

    def state_dict(self) -> Any:
        raise NotImplementedError("no training states are saved here")

    def load_state_dict(self, tensors: Any, values: Any) -> None:
        raise NotImplementedError("no training states are saved here")


def without_model(run: RunConfig, renderer: Renderer, rollouts: Simulated) -> Trainer:
    """A trainer whose learner and rollouts have no model."""
    return Trainer(
        run=run,
        arm=UNSHAPED,
        reward=build_reward(run.arm, run.arm_config),
        renderer=renderer,
        learner=Idle(),
        rollouts=rollouts,
        scheduler=RolloutScheduler(rollouts, run.train.groups, run.rollout.max_staleness),
        monitors=TrainingMonitors(()),
    )


@dataclass
class Measured:
    """Measurements of one run."""

    episodes: int
    """Episodes played."""
    stale: int
    """Episodes dropped as stale."""
    seconds: float
    """Duration on the workers' clock."""
    idle: float
    """Share of the slots' time without an episode, up to the last start of an episode."""
    cpu: float
    """CPU seconds of the controller per episode; 0 through Ray."""
    ideal: float
    """Seconds that the same episodes need if every free slot takes the next one at no cost."""
    resident: list[tuple[int, float]] = field(default_factory=list)
    """(episodes so far, MiB) at each of `MARKS`."""


Workers = AbstractContextManager[tuple[Simulated, Callable[[], Busy]]]


def measure(
    run: RunConfig,
    load: Load,
    renderer: Renderer,
    workers: Workers,
    now: Callable[[], float],
    clock: Clock | None = None,
) -> Measured:
    resident: list[tuple[int, float]] = []
    marks = [max(round(run.train.updates * share), 1) for share in MARKS]
    with workers as (rollouts, busy):
        trainer = without_model(run, renderer, rollouts)
        trainer.sync()
        start = now()
        for number in range(run.train.updates):
            update(trainer, number)
            if number + 1 in marks:
                with clock.stopped() if clock else nullcontext():
                    gc.collect()
                    resident.append((trainer.ledger.episodes, _resident("VmRSS:")))
        seconds = now() - start
        trainer.check_ledger()
        spans = busy()
    slots = run.rollout.workers * SIZE
    last = max(begin for begin, _ in spans)
    taken = sum(min(stop, last) - max(begin, start) for begin, stop in spans if begin < last)
    idle = 1 - taken / (slots * (last - start)) if last > start else 0.0
    durations = [load.duration(request, member) for request in rollouts.submitted for member in range(SIZE)]
    cpu = clock.cpu / trainer.ledger.episodes if clock else 0.0
    ideal = makespan(durations, slots)
    return Measured(trainer.ledger.episodes, trainer.ledger.stale, seconds, idle, cpu, ideal, resident)


def makespan(durations: Sequence[float], slots: int) -> float:
    """Seconds until all are done if they start in order, each in the first free slot."""
    free = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(free, free[0] + duration)
    return max(free)


def plain(run: RunConfig, load: Load) -> float:
    """CPU seconds per episode of a bare asyncio loop: workers take groups from a queue and collect them."""
    requests = [GroupRequest(update, group) for update in range(run.train.updates) for group in range(run.train.groups)]
    sent = pickle.dumps([load.episode(run, requests[0], n, Contexts(), 0) for n in range(SIZE)])
    groups: list[list[Episode]] = []

    async def all_of_them() -> None:
        queue: asyncio.Queue[GroupRequest] = asyncio.Queue()
        for request in requests:
            queue.put_nowait(request)

        async def worker() -> None:
            while not queue.empty():
                queue.get_nowait()
                await asyncio.sleep(0)
                groups.append(pickle.loads(sent))
                del groups[: -run.train.groups]

        await asyncio.gather(*(worker() for _ in range(run.rollout.workers)))

    start = time.thread_time()
    asyncio.run(all_of_them())
    return (time.thread_time() - start) / (len(requests) * SIZE)


def benchmark(quick: bool) -> list[Row]:
    """Controller: cost per episode, idle workers and memory, with simulated workers in this process and through Ray."""
    workers, updates = (4, 3) if quick else (64, 25)
    renderer = Renderer(Policy.load(organism(QUICK)).tokenizer)
    episodes = templates(renderer)
    at_once, slow = Load(episodes, 0.0), Load(episodes, 10.0)
    print(f"{workers} workers of {SIZE} slots, {updates} updates of {GROUPS} x {SIZE} episodes of", end=" ")
    turns, tokens = np.mean([len(e.turns) for e in episodes]), np.mean([len(e.tokens) for e in episodes])
    print(f"{turns:.0f} turns and {tokens:.0f} tokens")

    rows: list[Row] = []
    by_staleness: dict[int, Measured] = {}
    for staleness in (2,) if quick else (2, 1, 0):  # memory is measured in the first run
        measured = by_staleness[staleness] = simulated(config(workers, updates, staleness), slow, renderer)
        rows += idle_rows(f"in process, staleness {staleness}", measured)
        rows += memory_rows("in process", measured) if staleness == 2 else []
    rows.append(cost(config(workers, updates, 2), at_once, renderer))
    many = 4 * workers if quick else MANY
    measured = simulated(config(many, 2 if quick else 16, 2, GROUPS * many // workers), slow, renderer)
    rows += idle_rows(f"{many} workers, staleness 2", measured) + memory_rows(f"{many} workers", measured)
    ours, peer = 1e6 * measured.cpu, 1e6 * by_staleness[2].cpu
    rows.append(Row(f"{many} workers, beside {workers}: controller per episode", ours, peer, "us", peer / ours, FLAT))
    if not quick:
        run, load = config(workers, updates, 2), Load(episodes, 2.0)
        measured = measure(run, load, renderer, through_ray(run, UNSHAPED, load, 4), time.monotonic)
        rows += idle_rows("Ray, staleness 2", measured) + memory_rows("Ray", measured)
    return rows


def simulated(run: RunConfig, load: Load, renderer: Renderer) -> Measured:
    """A run whose clock is moved by the workers and by the controller's CPU time."""
    clock = Clock(charged=True)
    return measure(run, load, renderer, in_process(run, UNSHAPED, load, clock), partial(getattr, clock, "now"), clock)


def cost(run: RunConfig, load: Load, renderer: Renderer) -> Row:
    """The cost of the controller alone: workers answer at once."""
    clock = Clock(charged=True)
    measured = measure(run, load, renderer, in_process(run, UNSHAPED, load, clock), lambda: clock.now, clock)
    ours, peer = 1e6 * measured.cpu, 1e6 * plain(run, load)
    return Row("controller per episode, credit and audit included", ours, peer, "us", peer / ours)


def idle_rows(name: str, measured: Measured) -> list[Row]:
    target = "ours < 5" if name.endswith("2") else ""
    print(f"{name}: {measured.episodes} episodes, {measured.stale} of them stale, in {measured.seconds:.1f} s")
    ours, ideal = measured.episodes / measured.seconds, measured.episodes / measured.ideal
    return [
        Row(f"{name}: idle", 100 * measured.idle, unit="%", target=target),
        Row(f"{name}: ideal schedule", ours, ideal, "episodes/s", ours / ideal),
    ]


def memory_rows(name: str, measured: Measured) -> list[Row]:
    (_, first), *_, (_, last) = measured.resident
    grown = 100 * max(last - first, 0.0) / first
    return [
        *(Row(f"{name}: memory after {episodes:,} episodes", held, unit="MiB") for episodes, held in measured.resident),
        Row(f"{name}: growth of memory after the first tenth", grown, unit="%", target="ours < 5"),
    ]


if __name__ == "__main__":
    main(benchmark)
