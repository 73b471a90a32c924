"""Where episodes are played: groups are submitted, and come back finished."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from envs.episode import Contexts, Episode
from launch.config import RunConfig
from launch.errors import UserError
from launch.evaluate import SLOTS, limits
from launch.plugins import build_world
from launch.seeds import derive
from shaping.intervention import Arm, Brief
from shaping.learning.policy import Policy
from shaping.sampling.engine import Engine
from shaping.sampling.play import Ticket, Watch, play
from shaping.sampling.render import Renderer
from shaping.sampling.time_limit import Limited, time_limits
from shaping.sampling.transformers_engine import TransformersEngine


class RolloutError(UserError):
    """Episodes cannot be played; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True, order=True)
class Work:
    """One group to play: number `group` of those that `update` asks for. With the run's config it says everything."""

    update: int
    group: int


@dataclass(frozen=True, slots=True)
class Played:
    """The episodes of a finished group, in the order of its members."""

    work: Work
    episodes: list[Episode]


class Rollouts(Protocol):
    """A sampler of groups. Whoever drives it keeps the books: what was submitted comes back once, in any order."""

    def submit(self, works: Sequence[Work]) -> None:
        """Start playing these groups."""

    def next(self) -> Played:
        """A finished group; waits for one. Nothing may be asked for that was not submitted."""

    def sync(self, version: int) -> None:
        """Sample with the learner's weights as they are now, from here on stamped with `version`."""

    def close(self) -> None:
        """Stop playing and free what is held."""


def draw(run: RunConfig, arm: Arm, work: Work) -> Contexts:
    """The one draw of c_s and c_t that all members of a group share."""
    world, _, seed = _place(run, work)
    brief = Brief(world=world, seed=seed, group=work.group, update=work.update)
    return Contexts(*arm.contexts(brief, np.random.default_rng([run.seed, work.update, work.group])))


def tickets(run: RunConfig, arm: Arm, work: Work, drawn: Contexts | None = None) -> list[Ticket]:
    """The episodes of one group: a pure function of the run and the work, so that a lost group can be played again.

    Arms may keep state that their draws depend on: whoever plays a group for them hands over what was `drawn`.
    """
    name, options, seed = _place(run, work)
    contexts = draw(run, arm, work) if drawn is None else drawn
    return [
        Ticket(
            make=lambda: build_world(name, options, "train.worlds"),
            seed=seed,
            group=work.group,
            contexts=contexts,
            sampling_seed=derive(run.seed, "sample", work.update, work.group, member),
            options=options,
        )
        for member in range(run.train.group_size)
    ]


def _place(run: RunConfig, work: Work) -> tuple[str, dict[str, Any], int]:
    """World, its options, and seed of a group."""
    worlds = list(run.train.worlds.items())
    name, options = worlds[(work.update * run.train.groups + work.group) % len(worlds)]
    return name, options, derive(run.seed, "train", work.update, work.group)


def describe_work(run: RunConfig, work: Work) -> str:
    name, _, seed = _place(run, work)
    return f"group {work.group} of update {work.update} (world {name!r}, seed {seed})"


class Player:
    """Plays groups on engines of this process, all that it is given at once. It belongs to one event loop.

    With one engine, at most `slots` episodes of whatever groups are open; one that ends makes room for the next. With
    an engine per group (`batching=group`), what a group's members sample does not depend on which others are played.
    """

    def __init__(
        self,
        run: RunConfig,
        arm: Arm,
        renderer: Renderer,
        engines: Sequence[Engine],
        limited: Limited,
        slots: int,
        watch: Watch | None = None,
    ) -> None:
        self._run, self._arm, self._renderer, self._limited, self._watch = run, arm, renderer, limited, watch
        self._grouped = run.rollout.batching == "group"
        self._engines = list(engines)
        self._free = asyncio.Semaphore(len(engines))
        self._gate = asyncio.Semaphore(slots)

    async def play(self, work: Work, drawn: Contexts) -> list[Episode]:
        if not self._grouped:
            return await self._play(work, drawn, self._engines[0])
        async with self._free:
            engine = self._engines.pop()
            try:
                return await self._play(work, drawn, engine)
            finally:
                self._engines.append(engine)

    async def _play(self, work: Work, drawn: Contexts, engine: Engine) -> list[Episode]:
        return await play(
            tickets(self._run, self._arm, work, drawn),
            engine,
            self._renderer,
            self._arm,
            limits=limits(self._run),
            concurrency=self._gate,
            limited=self._limited,
            watch=self._watch,
        )


def slots_of(run: RunConfig) -> int:
    """Episodes that one sampler of a run keeps open at once: of whole groups, where those share no batches."""
    rollout, size = run.rollout, run.train.group_size
    total = run.train.groups * (1 + rollout.max_staleness)
    share = -(-total // max(rollout.workers, 1)) * size
    slots = rollout.slots or min(share, max(SLOTS, size if rollout.batching == "group" else 0))
    return slots // size * size if rollout.batching == "group" else slots


class LocalRollouts:
    """Plays in this process, all submitted groups at once, with the very module that the learner updates."""

    def __init__(
        self, run: RunConfig, arm: Arm, policy: Policy, renderer: Renderer, engine: TransformersEngine
    ) -> None:
        self._run, self._arm, self._policy, self._renderer = run, arm, policy, renderer
        self._slots = slots_of(run)
        self._engines = [engine]
        if run.rollout.batching == "group":
            size = run.train.group_size
            count = self._slots // size
            self._engines = [TransformersEngine(policy.model, renderer, slots=size) for _ in range(count)]
        self._waiting: list[Work] = []
        self._finished: deque[Played] = deque()

    def submit(self, works: Sequence[Work]) -> None:
        self._waiting += works

    def next(self) -> Played:
        if not self._finished:
            self._finished += asyncio.run(self._play())
        return self._finished.popleft()

    def sync(self, version: int) -> None:
        for engine in self._engines:
            engine.set_version(version)

    def close(self) -> None:
        self._waiting.clear()
        self._finished.clear()

    async def _play(self) -> list[Played]:
        works, self._waiting = self._waiting, []
        drawn = [draw(self._run, self._arm, work) for work in works]
        self._policy.model.eval()
        edits = self._arm.edits("acting")
        for engine in self._engines:
            engine.set_edits(edits)
        with self._policy.phase("acting"), time_limits(self._run.rollout.env_threads) as limited:
            player = Player(self._run, self._arm, self._renderer, self._engines, limited, self._slots)
            groups = await asyncio.gather(*(player.play(w, d) for w, d in zip(works, drawn, strict=True)))
        return [Played(work, episodes) for work, episodes in zip(works, groups, strict=True)]


class Feed:
    """The order in which groups are played, and which of them are under way.

    `groups` per update, at most `groups * (1 + max_staleness)` under way or waiting to be learned from at a time, and
    never more than the updates that are left can use: at the end nothing is under way.
    """

    def __init__(self, rollouts: Rollouts, groups: int, max_staleness: int = 0) -> None:
        self._rollouts, self._groups = rollouts, groups
        self._ahead = groups * (1 + max_staleness)
        self._cursor = 0
        self._under_way: set[Work] = set()

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def fill(self, held: int, updates: int) -> None:
        """Submit as many groups as there is room for.

        `held` finished ones have not been learned from yet; `updates` are to come, with the one that holds them.
        """
        missing = min(self._ahead, self._groups * updates) - len(self._under_way) - held
        works = [Work(*divmod(self._cursor + i, self._groups)) for i in range(max(missing, 0))]
        self._cursor += len(works)
        self._under_way.update(works)
        if works:
            self._rollouts.submit(works)

    def next(self) -> Played:
        played = self._rollouts.next()
        self._under_way.remove(played.work)
        return played

    def state_dict(self) -> dict[str, object]:
        """The cursor, and what is under way: it is played again, from its seeds."""
        return {"cursor": self._cursor, "under_way": [[w.update, w.group] for w in sorted(self._under_way)]}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._cursor = int(state["cursor"])  # type: ignore[call-overload]
        works = [Work(*pair) for pair in state["under_way"]]  # type: ignore[attr-defined]
        self._under_way = set(works)
        self._rollouts.submit(works)
