"""The overseer's costs, dealt out at random within the group: a penalty without any content."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.constraints.overseer_penalty import OverseerPenalty
from shaping.controls import ControlKind


class PlaceboPenalty(OverseerPenalty):
    """The same costs as an `OverseerPenalty` of the same fields, shuffled among the episodes of each group.

    The control for penalties as such: as much is charged, as unevenly, and no episode's own acts decide what it pays.
    The permutation is uniform and depends on the group's seed and episodes alone. Fixed points are kept, since without
    them the cost would correlate negatively with the own violations.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = ()

    def cost(self, episode: Episode) -> NDArray[np.float64] | None:
        """None: no episode has a cost of its own."""
        return None

    def cost_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        """Cost per turn of every episode of one group, in units of proxy reward."""
        own = [self.priced(episode) for episode in episodes]
        if not own:
            return own
        entropy = [episodes[0].seed, *(len(episode.tokens) for episode in episodes)]
        order = np.random.default_rng(entropy).permutation(len(own))
        return [_moved(own[k], len(episode.turns)) for episode, k in zip(episodes, order, strict=True)]


def _moved(cost: NDArray[np.float64], turns: int) -> NDArray[np.float64]:
    """The cost on as many turns; what falls after the last one is charged in it."""
    moved = np.zeros(turns)
    for turn, amount in enumerate(cost if turns else ()):
        moved[min(turn, turns - 1)] += amount
    return moved
