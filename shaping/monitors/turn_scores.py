"""A monitor's readings of one episode, checked, and as arrays over its turns."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from envs.calls import call
from envs.episode import TRAITS, Episode
from shaping.monitors.base import Monitor, MonitorError, Reading


def checked_readings(monitor: Monitor, episode: Episode) -> tuple[Reading, ...]:
    """What a monitor reads in an episode, which it gets without its labels, unless it declares `oracle`.

    Raises: `MonitorError` if the monitor raises, answers something else than readings, or names a turn or tokens that
    the episode does not have.
    """
    return checked(monitor, episode, call(MonitorError, monitor, "read", shown_to(monitor, episode)))


def shown_to(monitor: Monitor, episode: Episode) -> Episode:
    """The episode as the monitor may read it. Raises: `MonitorError` if its `view` gives none."""
    found = call(MonitorError, monitor, "view", episode if monitor.oracle else episode.redacted())
    if not isinstance(found, Episode):
        raise MonitorError(f"{type(monitor).__name__}.view() returned {found!r:.80}; it must return an Episode")
    return found


def suspected(monitor: Monitor) -> tuple[str, ...]:
    """The traits that a monitor may name. Raises: `MonitorError` if `suspects` names anything else."""
    found = call(MonitorError, monitor, "suspects")
    if not isinstance(found, (list, tuple)) or not all(trait in TRAITS for trait in found):
        raise MonitorError(
            f"{type(monitor).__name__}.suspects() returned {found!r:.80}; it must return traits, which are "
            f"{', '.join(TRAITS)}"
        )
    return tuple(found)


def checked(monitor: Monitor, episode: Episode, answer: object) -> tuple[Reading, ...]:
    """An answer of a monitor about an episode. Raises: `MonitorError` if these are no readings of the episode."""
    if not isinstance(answer, (list, tuple)) or not all(isinstance(reading, Reading) for reading in answer):
        raise MonitorError(
            f"{type(monitor).__name__}.read() returned {answer!r:.80}; it must return a list of Readings"
        )
    for reading in answer:
        if not 0 <= reading.turn < len(episode.turns):
            raise MonitorError(
                f"monitor {monitor.name!r} reports turn {reading.turn} of an episode ({episode.world}, seed "
                f"{episode.seed}) of {len(episode.turns)} turns; turns count from 0"
            )
        if reading.tokens is not None and reading.tokens[1] > len(episode.tokens):
            raise MonitorError(
                f"monitor {monitor.name!r} reports tokens {reading.tokens} of an episode ({episode.world}, seed "
                f"{episode.seed}) of {len(episode.tokens)} tokens"
            )
    return tuple(answer)


def turn_scores(monitor: Monitor, episode: Episode) -> dict[str, NDArray[np.float64]]:
    """The highest score of each turn [turns], for every trait that a reading names. Raises as `checked_readings`."""
    return highest(checked_readings(monitor, episode), len(episode.turns))


def highest(readings: Iterable[Reading], turns: int) -> dict[str, NDArray[np.float64]]:
    """Trait -> the highest score of each turn [turns]; 0 for turns without a reading of it."""
    scores: dict[str, NDArray[np.float64]] = {}
    for reading in readings:
        by_turn = scores.setdefault(reading.trait, np.zeros(turns))
        by_turn[reading.turn] = max(by_turn[reading.turn], reading.score)
    return scores
