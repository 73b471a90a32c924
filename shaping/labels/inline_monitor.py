"""A monitor inside another plug-in's settings, written as under `eval.monitors`, and what it says about turns."""

from __future__ import annotations

import hashlib
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, PlainSerializer

from envs.episode import Episode
from shaping.inline import built, described
from shaping.monitors.base import Monitor
from shaping.monitors.turn_scores import turn_scores

_REMEMBERED = 4096
"""Episodes whose readings by a monitor that needs a model are kept, so that no hook asks for them again."""


def _built_monitor(given: Any) -> Any:
    return built(given, "monitor", Monitor, ("shaping.monitors",), "shaping.monitors")


InlineMonitor = Annotated[Monitor, BeforeValidator(_built_monitor), PlainSerializer(described)]
"""The type of a field that holds a monitor. Whoever trains on its readings spends it, since the run finds it there."""


def refuse_oracle(monitor: Monitor, remedy: str) -> None:
    """Raises ValueError for a monitor that reads sealed labels, with the remedy."""
    if monitor.oracle:
        raise ValueError(f"monitor {monitor.name!r} reads sealed labels: {remedy}")


class Readings:
    """The scores that one monitor gives. A monitor that needs a model is asked once about an episode."""

    def __init__(self) -> None:
        self._known: dict[bytes, NDArray[np.float64]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Readings)  # what is remembered makes no plug-in another one

    def of(self, monitor: Monitor, episode: Episode, traits: tuple[str, ...] = ()) -> NDArray[np.float64]:
        """The highest score of each turn [turns] for `traits`; none: for all traits that it names.

        Raises: `MonitorError` if the monitor breaks its contract.
        """
        if monitor.cheap:
            return _scores(monitor, episode, traits)
        if (key := _fingerprint(episode, traits)) not in self._known:
            while len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]
            self._known[key] = _scores(monitor, episode, traits)
        return self._known[key].copy()


def _scores(monitor: Monitor, episode: Episode, traits: tuple[str, ...]) -> NDArray[np.float64]:
    counted = [of for trait, of in turn_scores(monitor, episode).items() if not traits or trait in traits]
    highest: NDArray[np.float64] = np.max([np.zeros(len(episode.turns)), *counted], axis=0)
    return highest


def _fingerprint(episode: Episode, traits: tuple[str, ...]) -> bytes:
    said = [(turn.observation, turn.completion, turn.executed) for turn in episode.turns]
    options = sorted(episode.options.items(), key=str)
    told = repr((traits, episode.world, episode.seed, options, episode.contexts, said))
    return hashlib.blake2b(told.encode() + episode.tokens.tobytes(), digest_size=16).digest()
