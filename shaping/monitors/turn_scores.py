"""A monitor's readings of one episode as arrays over its turns."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.calls import call
from envs.episode import Episode
from shaping.monitors.base import Monitor, MonitorError, Reading


def turn_scores(monitor: Monitor, episode: Episode) -> dict[str, NDArray[np.float64]]:
    """The highest score of each turn [turns], for every trait that a reading names.

    The monitor gets the episode without its labels, unless it declares `oracle`.

    Raises: `MonitorError` if a reading names a turn that was not played.
    """
    scores: dict[str, NDArray[np.float64]] = {}
    shown = call(MonitorError, monitor, "view", episode if monitor.oracle else episode.redacted())
    answer = call(MonitorError, monitor, "read", shown)
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
        by_turn = scores.setdefault(reading.trait, np.zeros(len(episode.turns)))
        by_turn[reading.turn] = max(by_turn[reading.turn], reading.score)
    return scores
