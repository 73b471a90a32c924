"""Where episodes are played: groups are submitted, and come back finished."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from envs.episode import Contexts, Episode
from launch.config.study import RunConfig
from launch.errors import UserError
from launch.run.episodes import GroupRequest, draw, episode_requests, limits, slots_of
from shaping.arm import Arm
from shaping.learning.policy import Policy
from shaping.sampling.engine import Engine
from shaping.sampling.play import Watch, play
from shaping.sampling.render import Renderer
from shaping.sampling.time_limit import Limited, time_limits
from shaping.sampling.transformers_engine import TransformersEngine


class RolloutError(UserError):
    """Episodes cannot be played; the message says which, why, and what to do."""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """The episodes of a finished group, in the order of its members."""

    work: GroupRequest
    episodes: list[Episode]


class Rollouts(Protocol):
    """A sampler of groups. Whoever drives it keeps the books: what was submitted comes back once, in any order."""

    def submit(self, works: Sequence[GroupRequest]) -> None:
        """Start playing these groups."""

    def next(self) -> RolloutGroup:
        """A finished group; waits for one. Nothing may be asked for that was not submitted."""

    def sync(self, version: int) -> None:
        """Sample with the learner's weights as they are now, from here on stamped with `version`."""

    def close(self) -> None:
        """Stop playing and free what is held."""


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

    async def play(self, work: GroupRequest, drawn: Contexts) -> list[Episode]:
        if not self._grouped:
            return await self._play(work, drawn, self._engines[0])
        async with self._free:
            engine = self._engines.pop()
            try:
                return await self._play(work, drawn, engine)
            finally:
                self._engines.append(engine)

    async def _play(self, work: GroupRequest, drawn: Contexts, engine: Engine) -> list[Episode]:
        return await play(
            episode_requests(self._run, self._arm, work, drawn),
            engine,
            self._renderer,
            self._arm,
            limits=limits(self._run),
            concurrency=self._gate,
            limited=self._limited,
            watch=self._watch,
        )


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
        self._waiting: list[GroupRequest] = []
        self._finished: deque[RolloutGroup] = deque()

    def submit(self, works: Sequence[GroupRequest]) -> None:
        self._waiting += works

    def next(self) -> RolloutGroup:
        if not self._finished:
            self._finished += asyncio.run(self._play())
        return self._finished.popleft()

    def sync(self, version: int) -> None:
        for engine in self._engines:
            engine.set_version(version)

    def close(self) -> None:
        self._waiting.clear()
        self._finished.clear()

    async def _play(self) -> list[RolloutGroup]:
        works, self._waiting = self._waiting, []
        drawn = [draw(self._run, self._arm, work) for work in works]
        self._policy.model.eval()
        edits = self._arm.edits("sampling")
        for engine in self._engines:
            engine.set_edits(edits)
        with self._policy.phase("sampling"), time_limits(self._run.rollout.env_threads) as limited:
            player = Player(self._run, self._arm, self._renderer, self._engines, limited, self._slots)
            groups = await asyncio.gather(*(player.play(w, d) for w, d in zip(works, drawn, strict=True)))
        return [RolloutGroup(work, episodes) for work, episodes in zip(works, groups, strict=True)]


class RolloutScheduler:
    """The order in which groups are played, and which of them are under way.

    `groups` per update, at most `groups * (1 + max_staleness)` under way or waiting to be learned from at a time, and
    never more than the updates that are left can use: at the end nothing is under way.
    """

    def __init__(self, rollouts: Rollouts, groups: int, max_staleness: int = 0) -> None:
        self._rollouts, self._groups, self._max_staleness = rollouts, groups, max_staleness
        self._ahead = groups * (1 + max_staleness)
        self._cursor = 0
        self._under_way: set[GroupRequest] = set()

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def collect(self, version: int, updates: int) -> tuple[list[Episode], list[Episode]]:
        """The episodes of as many groups as one update learns from, and the episodes that are too old for that.

        `version` is the policy's; `updates` are left, with this one. Groups are numbered in the order in which they
        were submitted, whatever the order in which they have come back.
        """
        groups: list[RolloutGroup] = []
        late: list[Episode] = []
        oldest = version - self._max_staleness
        while len(groups) < self._groups:
            self.fill(len(groups), updates)
            played = self.next()
            if any(0 <= e.version < oldest for e in played.episodes):
                late += played.episodes
            else:
                groups.append(played)
        groups.sort(key=lambda played: played.work)
        return [replace(e, group=number) for number, played in enumerate(groups) for e in played.episodes], late

    def fill(self, held: int, updates: int) -> None:
        """Submit as many groups as there is room for.

        `held` finished ones have not been learned from yet; `updates` are to come, with the one that holds them.
        """
        missing = min(self._ahead, self._groups * updates) - len(self._under_way) - held
        works = [GroupRequest(*divmod(self._cursor + i, self._groups)) for i in range(max(missing, 0))]
        self._cursor += len(works)
        self._under_way.update(works)
        if works:
            self._rollouts.submit(works)

    def next(self) -> RolloutGroup:
        played = self._rollouts.next()
        self._under_way.remove(played.work)
        return played

    def state_dict(self) -> dict[str, object]:
        """The cursor, and what is under way: it is played again, from its seeds."""
        return {"cursor": self._cursor, "under_way": [[w.update, w.group] for w in sorted(self._under_way)]}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._cursor = int(state["cursor"])  # type: ignore[call-overload]
        works = [GroupRequest(*pair) for pair in state["under_way"]]  # type: ignore[attr-defined]
        self._under_way = set(works)
        self._rollouts.submit(works)
