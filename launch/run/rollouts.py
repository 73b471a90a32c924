"""Playing groups of episodes: groups are submitted, and come back finished."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from envs.episode import Episode
from launch.config.plugins import build_splitter
from launch.config.study import RunConfig
from launch.errors import UserError
from launch.run.episodes import GroupDraw, GroupRequest, draw, episode_requests, limits, slots_of
from launch.run.eval_plan import EvalRequest, playing_arm
from shaping.arm import Arm
from shaping.learning.policy import Policy
from shaping.sampling.engine import Engine
from shaping.sampling.play import EpisodeRequest, Watch, play
from shaping.sampling.render import Renderer
from shaping.sampling.time_limit import Limited, time_limits
from shaping.sampling.transformers_engine import TransformersEngine


class RolloutError(UserError):
    """Episodes cannot be played; the message says which ones, why, and what to do."""


@dataclass(frozen=True, slots=True)
class RolloutGroup:
    """A finished group."""

    request: GroupRequest
    """What was asked for."""
    episodes: list[Episode]
    """One per member, in their order."""


class Rollouts(Protocol):
    """A sampler of groups. Every group that is submitted comes back once, in any order."""

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        """Start playing these groups."""

    def next(self) -> RolloutGroup:
        """Wait for a finished group. At least one must have been submitted that has not come back."""

    def sync(self, version: int) -> None:
        """From now on sample with the learner's present weights, and stamp tokens with `version`."""

    def close(self) -> None:
        """Stop playing and free all resources."""


class Player:
    """Plays groups on the engines of this process, many at once. It belongs to one event loop.

    With one engine, at most `slots` episodes of any groups are open; the next starts when one ends. With an engine per
    group (`batching=group`), the samples of a group do not depend on which other groups are played.
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
        self._splitter = build_splitter(run.rollout.splitter)

    async def play(self, request: GroupRequest | EvalRequest, drawn: GroupDraw) -> list[Episode]:
        """A group under its draw, or episodes of an evaluation under contexts of their own."""
        if isinstance(request, EvalRequest):
            arm = playing_arm(self._arm, request.policy)
            episodes = [episode.request(self._run) for episode in request.episodes]
        else:
            arm, episodes = self._arm, episode_requests(self._run, self._arm, request, drawn)
        if not self._grouped:
            return await self._play(episodes, arm, self._engines[0])
        async with self._free:
            engine = self._engines.pop()
            try:
                return await self._play(episodes, arm, engine)
            finally:
                self._engines.append(engine)

    async def _play(self, episodes: Sequence[EpisodeRequest], arm: Arm, engine: Engine) -> list[Episode]:
        return await play(
            episodes,
            engine,
            self._renderer,
            arm,
            limits=limits(self._run),
            concurrency=self._gate,
            splitter=self._splitter,
            limited=self._limited,
            watch=self._watch,
        )


class LocalRollouts:
    """Plays all submitted groups at once in this process, with the module that the learner updates."""

    def __init__(self, run: RunConfig, arm: Arm, policy: Policy, renderer: Renderer) -> None:
        self._run, self._arm, self._policy, self._renderer = run, arm, policy, renderer
        self._slots = slots_of(run)
        slots = run.train.group_size if run.rollout.batching == "group" else self._slots
        self._engines = [TransformersEngine(policy.model, renderer, slots=slots) for _ in range(self._slots // slots)]
        self._waiting: list[GroupRequest] = []
        self._finished: deque[RolloutGroup] = deque()

    def submit(self, requests: Sequence[GroupRequest]) -> None:
        self._waiting += requests

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
        for engine in self._engines:
            engine.release()

    async def _play(self) -> list[RolloutGroup]:
        requests, self._waiting = self._waiting, []
        drawn = [draw(self._run, self._arm, request) for request in requests]
        self._policy.model.eval()
        edits = self._arm.edits("sampling")
        for engine in self._engines:
            engine.set_edits(edits)
        with self._policy.phase("sampling"), time_limits(self._run.rollout.env_threads) as limited:
            player = Player(self._run, self._arm, self._renderer, self._engines, limited, self._slots)
            groups = await asyncio.gather(*(player.play(w, d) for w, d in zip(requests, drawn, strict=True)))
        return [RolloutGroup(request, episodes) for request, episodes in zip(requests, groups, strict=True)]


class RolloutScheduler:
    """Decides which groups are played when.

    An update takes `groups` groups. At most `groups * (1 + max_staleness)` are being played or wait to be learned from.
    There are never more than the remaining updates can use, so nothing is left over at the end.
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
        """Wait for the groups of one update. Returns (their episodes, episodes that are too old to learn from).

        `version` is the policy's; `updates` is the number of updates left, including this one. Groups are numbered in
        the order of their submission, in whatever order they come back.
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
        groups.sort(key=lambda played: played.request)
        return [replace(e, group=number) for number, played in enumerate(groups) for e in played.episodes], late

    def fill(self, held: int, updates: int) -> None:
        """Submit as many groups as there is room for, if `held` finished groups have not been learned from yet."""
        missing = min(self._ahead, self._groups * updates) - len(self._under_way) - held
        requests = [GroupRequest(*divmod(self._cursor + i, self._groups)) for i in range(max(missing, 0))]
        self._cursor += len(requests)
        self._under_way.update(requests)
        if requests:
            self._rollouts.submit(requests)

    def next(self) -> RolloutGroup:
        played = self._rollouts.next()
        self._under_way.remove(played.request)
        return played

    def extra(self, requests: Sequence[GroupRequest]) -> list[RolloutGroup]:
        """Play groups beside those that an update takes, while no other is under way. In the order of `requests`."""
        self._under_way.update(requests)
        self._rollouts.submit(requests)
        played = {group.request: group for group in (self.next() for _ in requests)}
        return [played[request] for request in requests]

    def drain(self) -> list[Episode]:
        """Wait for all groups under way, for which no update is left."""
        return [episode for _ in range(len(self._under_way)) for episode in self.next().episodes]

    def state_dict(self) -> dict[str, object]:
        """The cursor, and the groups under way: they are played again from their seeds."""
        return {"cursor": self._cursor, "under_way": [[w.update, w.group] for w in sorted(self._under_way)]}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self._cursor = int(state["cursor"])  # type: ignore[call-overload]
        requests = [GroupRequest(*pair) for pair in state["under_way"]]  # type: ignore[attr-defined]
        self._under_way = set(requests)
        self._rollouts.submit(requests)
