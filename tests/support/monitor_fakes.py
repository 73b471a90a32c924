"""Monitors for tests of runs, and an intervention that trains against one. Configs name them `monitor_fakes:Class`."""

from __future__ import annotations

import threading
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializeAsAny

from envs.episode import Episode, Turn
from shaping.intervention import Constraint
from shaping.monitors.base import Monitor, Reading
from shaping.monitors.overt_action import OvertAction


def suspicion(turn: Turn) -> float:
    """A number in [0, 1) that differs from turn to turn."""
    return int(turn.tokens[0]) % 10 / 10


class TeaLeaves(Monitor):
    """Reads in the first token of a turn how harmful it is."""

    name: str = "tea_leaves"
    trait: str = "harm"
    threads: ClassVar[set[str]] = set()
    """The names of the threads that it has read in."""

    def read(self, episode: Episode) -> list[Reading]:
        self.threads.add(threading.current_thread().name)
        return [Reading(self.name, self.trait, t, suspicion(turn)) for t, turn in enumerate(episode.turns)]


class Breaks(TeaLeaves):
    """Fails at episodes of one version of the policy."""

    name: str = "breaks"
    version: int = 2

    def read(self, episode: Episode) -> list[Reading]:
        if episode.version == self.version:
            raise ArithmeticError("the probe has no direction")
        return super().read(episode)


class Peeks(TeaLeaves):
    """Opens the seal without saying that it does."""

    name: str = "peeks"

    def read(self, episode: Episode) -> list[Reading]:
        episode.truth.open()
        return super().read(episode)


class Slow(TeaLeaves):
    """Asks a model, or so it says."""

    cheap: ClassVar[bool] = False
    name: str = "slow"


class Priced(Constraint):
    """Prices what one of several monitors says."""

    monitors: list[SerializeAsAny[Monitor]] = [OvertAction(role="train")]

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        cost = np.zeros(len(episode.turns))
        for reading in self.monitors[0].read(episode):
            cost[reading.turn] += reading.score
        return cost


class NotANumber(TeaLeaves):
    """Answers nan in the episodes of one group."""

    name: str = "not_a_number"
    group: int = 1

    def read(self, episode: Episode) -> list[Reading]:
        if episode.group == self.group:
            return [Reading(self.name, self.trait, 0, float("nan"))]
        return super().read(episode)
