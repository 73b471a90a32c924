"""Where episodes are played: groups are submitted, and come back finished."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from envs.episode import Contexts, Episode
from launch.config import RunConfig
from launch.evaluate import limits
from launch.plugins import build_world
from launch.seeds import derive
from shaping.intervention import Arm, Brief
from shaping.learning.policy import Policy
from shaping.sampling.play import Ticket, play
from shaping.sampling.render import Renderer
from shaping.sampling.transformers_engine import TransformersEngine


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


def tickets(run: RunConfig, arm: Arm, work: Work) -> list[Ticket]:
    """The episodes of one group: a pure function of the run and the work, so that a lost group can be played again."""
    worlds = list(run.train.worlds.items())
    name, options = worlds[(work.update * run.train.groups + work.group) % len(worlds)]
    seed = derive(run.seed, "train", work.update, work.group)
    brief = Brief(world=name, seed=seed, group=work.group, update=work.update)
    # the one draw of c_s and c_t that all members of the group share
    drawn = Contexts(*arm.contexts(brief, np.random.default_rng([run.seed, work.update, work.group])))
    return [
        Ticket(
            make=lambda: build_world(name, options, "train.worlds"),
            seed=seed,
            group=work.group,
            contexts=drawn,
            sampling_seed=derive(run.seed, "sample", work.update, work.group, member),
            options=options,
        )
        for member in range(run.train.group_size)
    ]


class LocalRollouts:
    """Plays in this process, all submitted groups at once, with the very module that the learner updates."""

    def __init__(
        self, run: RunConfig, arm: Arm, policy: Policy, renderer: Renderer, engine: TransformersEngine
    ) -> None:
        self._run, self._arm, self._policy, self._renderer, self._engine = run, arm, policy, renderer, engine
        self._waiting: list[Work] = []
        self._finished: deque[Played] = deque()

    def submit(self, works: Sequence[Work]) -> None:
        self._waiting += works

    def next(self) -> Played:
        if not self._finished:
            self._play()
        return self._finished.popleft()

    def sync(self, version: int) -> None:
        self._engine.set_version(version)

    def close(self) -> None:
        self._waiting.clear()
        self._finished.clear()

    def _play(self) -> None:
        works, self._waiting = self._waiting, []
        self._policy.model.eval()
        self._engine.set_edits(self._arm.edits("acting"))
        asked = [ticket for work in works for ticket in tickets(self._run, self._arm, work)]
        with self._policy.phase("acting"):
            episodes = asyncio.run(play(asked, self._engine, self._renderer, self._arm, limits=limits(self._run)))
        size = self._run.train.group_size
        self._finished += [Played(w, episodes[i * size : (i + 1) * size]) for i, w in enumerate(works)]


class Feed:
    """The order in which groups are played, and which of them are under way.

    `groups` per update, at most `groups * (1 + max_staleness)` under way or waiting to be learned from at a time.
    """

    def __init__(self, rollouts: Rollouts, groups: int, max_staleness: int = 0) -> None:
        self._rollouts, self._groups = rollouts, groups
        self._ahead = groups * (1 + max_staleness)
        self._cursor = 0
        self._under_way: set[Work] = set()

    def fill(self, held: int = 0) -> None:
        """Submit as many groups as there is room for; `held` finished ones have not been learned from yet."""
        missing = self._ahead - len(self._under_way) - held
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
