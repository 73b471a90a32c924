"""What a monitor reads in many episodes. An episode at which it fails costs that episode's readings and no others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.calls import call
from envs.episode import Episode
from envs.text import message_of
from shaping.monitors.base import Monitor, MonitorError, Reading
from shaping.monitors.records import episode_id
from shaping.monitors.turn_scores import checked, checked_readings, highest, shown_to, suspected


@dataclass(frozen=True)
class EpisodesRead:
    """A monitor's readings of episodes."""

    monitor: Monitor
    """The monitor."""
    episodes: tuple[Episode, ...]
    """The episodes."""
    readings: tuple[tuple[Reading, ...] | None, ...]
    """Its readings of each episode; None where it failed."""
    failures: Mapping[int, str]
    """Index of an episode at which it failed -> which episode that is, and the error."""

    @property
    def whole(self) -> list[int]:
        """Indices of the episodes that it has read."""
        return [index for index, found in enumerate(self.readings) if found is not None]

    @property
    def traits(self) -> list[str]:
        """The traits that it may suspect, and those that it has named."""
        named = {reading.trait for found in self.readings if found for reading in found}
        return sorted({*suspected(self.monitor), *named})

    def scores(self, index: int, trait: str) -> NDArray[np.float64]:
        """The highest score of each turn [turns] of an episode that it has read; 0 where it read nothing."""
        turns = len(self.episodes[index].turns)
        return highest(self.readings[index] or (), turns).get(trait, np.zeros(turns))


def read_all(monitor: Monitor, episodes: Sequence[Episode]) -> EpisodesRead:
    """Let a monitor read each of the episodes; where it raises, or a score is no number, it failed.

    A monitor with a `read_many` of its own is asked about all at once.
    """
    readings: list[tuple[Reading, ...] | None] = []
    failures: dict[int, str] = {}
    answers = _together(monitor, episodes) if type(monitor).read_many is not Monitor.read_many else None
    for index, episode in enumerate(episodes):
        try:
            readings.append(
                checked_readings(monitor, episode) if answers is None else _checked(monitor, episode, answers[index])
            )
        except Exception as error:  # whatever a plug-in raises at one episode
            readings.append(None)
            failures[index] = f"{episode_id(episode)}: {type(error).__name__}: {message_of(error)}"
    return EpisodesRead(monitor, tuple(episodes), tuple(readings), failures)


def _together(monitor: Monitor, episodes: Sequence[Episode]) -> Sequence[Any]:
    """An answer, or an error, for each episode; where the monitor raises instead, that error for all of them."""
    try:
        answers = call(MonitorError, monitor, "read_many", [shown_to(monitor, episode) for episode in episodes])
        if not isinstance(answers, (list, tuple)) or len(answers) != len(episodes):
            raise MonitorError(
                f"{type(monitor).__name__}.read_many() returned {answers!r:.80}; it must return one list of Readings, "
                f"or a MonitorError, for each of {len(episodes)} episodes"
            )
    except Exception as error:  # whatever a plug-in raises
        return [error] * len(episodes)
    return answers


def _checked(monitor: Monitor, episode: Episode, answer: Any) -> tuple[Reading, ...]:
    if isinstance(answer, Exception):
        raise answer
    return checked(monitor, episode, answer)
