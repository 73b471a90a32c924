"""Captured hidden states of an update, as plug-ins are shown them (`shaping.hooks.Capture`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.frozen import freeze, restore


@dataclass(frozen=True, slots=True)
class Activations:
    """The detached states of one capture in an update, as means over the tokens of each turn."""

    layers: tuple[int, ...]
    """The layers, counted from 0."""
    turns: Mapping[tuple[int, int], NDArray[np.float32]]
    """(number of the episode in the update, number of the turn) -> mean [layers, hidden]. A turn that is in no loss is
    missing."""

    def __post_init__(self) -> None:
        freeze(self, "turns")

    def __setstate__(self, state: Any) -> None:
        restore(self, state)

    def of(self, episode: int, turns: int) -> NDArray[np.float32]:
        """Means of one episode [turns, layers, hidden]; nan for turns that are missing."""
        shape = next((mean.shape for mean in self.turns.values()), (len(self.layers), 0))
        found = np.full((turns, *shape), np.nan, np.float32)
        for turn in range(turns):
            if (mean := self.turns.get((episode, turn))) is not None:
                found[turn] = mean
        return found
