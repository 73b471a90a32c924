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
from launch.run.captures import sampling_captures
from launch.run.episodes import DEPLOYED, GroupDraw, GroupRequest, episode_requests, group_slots, limits, slots_of
from launch.run.evaluation.eval_plan import EvalRequest, playing_arm
from launch.run.seats.games import EvalGame
from launch.run.seats.players import modes
from launch.run.seats.seating import Drawn, draw_group, games
from shaping.arm import Arm
from shaping.learning.policy import Policy
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.engine import Engine
from shaping.sampling.play import EpisodeRequest, Watch, play
from shaping.sampling.table import TableRequest, play_tables
from shaping.sampling.text.render import Renderer
from shaping.sampling.time_limit import Limited, time_limits
from shaping.seat_records import PLAYER, is_learner, player_of, seat_of


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
        self._gate, self._turnstile = asyncio.Semaphore(slots), asyncio.Lock()
        self._splitter = build_splitter(run.rollout.splitter)

    async def play(self, request: GroupRequest | EvalRequest, drawn: Drawn) -> list[Episode]:
        """A group under its draw, or episodes of an evaluation under contexts of their own.

        Of games of several seats: the episodes of the learners, and in an evaluation of all policies.
        """
        if not self._grouped:
            return await self._on(request, drawn, self._engines[0])
        async with self._free:
            engine = self._engines.pop()
            try:
                return await self._on(request, drawn, engine)
            finally:
                self._engines.append(engine)

    async def _on(self, request: GroupRequest | EvalRequest, drawn: Drawn, engine: Engine) -> list[Episode]:
        run = self._run
        if isinstance(request, EvalRequest):
            arm = playing_arm(self._arm, request.policy)
            tables = [e.request(run) for e in request.episodes if isinstance(e, EvalGame)]
            if tables:
                return await self._play_games(tables, arm, engine)
            singles = [e.request(run) for e in request.episodes if not isinstance(e, EvalGame)]
            return await self._play(singles, arm, engine)
        if isinstance(drawn, GroupDraw):
            return await self._play(episode_requests(run, self._arm, request, drawn), self._arm, engine)
        played = await self._play_games(games(run, request, drawn), self._arm, engine)
        return [episode for episode in played if is_learner(player_of(episode))]

    async def _play_games(self, tables: Sequence[TableRequest], arm: Arm, engine: Engine) -> list[Episode]:
        played = await play_tables(
            tables,
            engine,
            self._renderer,
            lambda seat: _arm_of(seat, arm),
            limits=limits(self._run),
            gate=self._gate,
            turnstile=self._turnstile,
            limited=self._limited,
            splitter=self._splitter,
            watch=self._watch,
        )
        return [episode for seats in played for episode in seats]

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


def _arm_of(seat: EpisodeRequest, arm: Arm) -> Arm:
    """The interventions under which a seat is sampled: opponents have none."""
    return arm.of(seat.seat) if is_learner(str(seat.options[PLAYER])) else replace(DEPLOYED, name=arm.name)


class LocalRollouts:
    """Plays all submitted groups at once in this process, with the module that the learner updates."""

    def __init__(self, run: RunConfig, arm: Arm, policy: Policy, renderer: Renderer) -> None:
        self._run, self._arm, self._policy, self._renderer = run, arm, policy, renderer
        self._slots = slots_of(run)
        slots = group_slots(run) if run.rollout.batching == "group" else self._slots
        captures = sampling_captures(run, arm)
        self._engines = [
            TransformersEngine(policy.model, renderer, slots=slots, captures=captures)
            for _ in range(self._slots // slots)
        ]
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
        drawn = [draw_group(self._run, self._arm, request) for request in requests]
        self._policy.model.eval()
        edits = self._arm.edits("sampling")
        adapters = self._policy.adapters
        players = modes(self._run, adapters.specs.values(), self._arm, "sampling")
        for engine in self._engines:
            engine.set_edits(edits)
            engine.set_players(adapters, players)
        with self._policy.phase("sampling"), time_limits(self._run.rollout.env_threads) as limited:
            player = Player(self._run, self._arm, self._renderer, self._engines, limited, self._slots)
            groups = await asyncio.gather(*(player.play(w, d) for w, d in zip(requests, drawn, strict=True)))
        return [RolloutGroup(request, episodes) for request, episodes in zip(requests, groups, strict=True)]


class RolloutScheduler:
    """Decides which groups are played when.

    An update takes `groups` groups, which with `seats` consist of one for every learned seat. At most
    `groups * (1 + max_staleness)` are being played or wait to be learned from. There are never more than the remaining
    updates can use, so nothing is left over at the end.
    """

    def __init__(self, rollouts: Rollouts, groups: int, max_staleness: int = 0, seats: Sequence[str] = ()) -> None:
        self._rollouts, self._groups, self._max_staleness = rollouts, groups, max_staleness
        self._ahead = groups * (1 + max_staleness)
        self._seats = list(seats)
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
        numbered = [(number, e) for number, played in enumerate(groups) for e in played.episodes]
        return [replace(e, group=self._group_of(number, e)) for number, e in numbered], late

    def _group_of(self, number: int, episode: Episode) -> int:
        """The group that an episode is compared in: of one seat, where there are several."""
        if not self._seats:
            return number
        return number * len(self._seats) + self._seats.index(seat_of(episode))

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
