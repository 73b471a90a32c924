"""Costs dealt out at random within a group: the placebo of a price."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode

Costs = NDArray[np.float64]


def dealt(costs: Sequence[Costs], episodes: Sequence[Episode]) -> list[Costs]:
    """The costs [turns] of each episode, each of them charged to a random episode of the same group.

    As much is charged, as unevenly, and no episode's own acts decide what it pays. The permutation is uniform and
    depends on the group's seed and episodes alone. Fixed points are kept, since without them the cost would correlate
    negatively with the own conduct.
    """
    if not costs:
        return []
    entropy = [episodes[0].seed, *(len(episode.tokens) for episode in episodes)]
    order = np.random.default_rng(entropy).permutation(len(costs))
    return [_moved(costs[k], len(episode.turns)) for episode, k in zip(episodes, order, strict=True)]


def _moved(cost: Costs, turns: int) -> Costs:
    """The cost on as many turns; what falls after the last one is charged in it."""
    moved = np.zeros(turns)
    for turn, amount in enumerate(cost if turns else ()):
        moved[min(turn, turns - 1)] += amount
    return moved
