"""The overseer's costs, dealt out at random within the group: a penalty without any content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.constraints.dealt import dealt
from shaping.constraints.overseer_penalty import OverseerPenalty
from shaping.controls import ControlKind


class PlaceboPenalty(OverseerPenalty):
    """The same costs as an `OverseerPenalty` of the same fields, shuffled among the episodes of each group.

    The control for penalties as such: as much is charged, as unevenly, and no episode's own acts decide what it pays
    (`shaping.constraints.dealt`).
    """

    needs: ClassVar[tuple[ControlKind, ...]] = ()

    def cost(self, episode: Episode) -> NDArray[np.float64] | None:
        """None: no episode has a cost of its own."""
        return None

    def cost_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        """Cost per turn of every episode of one group, in units of proxy reward."""
        return dealt([self.priced(episode) for episode in episodes], episodes)
