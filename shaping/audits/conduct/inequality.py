"""How unequally do the players of a game end up? Gini coefficients of what its seats hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shaping.audits.columns import Columns
from shaping.audits.conduct.rates import POWER

_SHARE = POWER.index("resource_share")


def gini(values: NDArray[np.float64]) -> float | None:
    """Mean absolute difference of all pairs, a value with itself included, / (2 x the mean), for values[n] >= 0.

    0: all hold the same; 1 - 1/n: one holds everything. None without values and where nobody holds anything. Raises
    `ValueError` if a value is negative.
    """
    held = np.sort(np.asarray(values, np.float64))
    if len(held) and not held[0] >= 0:
        raise ValueError(f"what is held cannot be negative, got {float(held[0])}")
    if not len(held) or not held.sum():
        return None
    n = len(held)
    return float(2 * (np.arange(1, n + 1) @ held) / (n * held.sum()) - (n + 1) / n)


def games_gini(columns: Columns) -> float | None:
    """Mean over games of the Gini coefficient of the shares of the resources that its seats hold at the end.

    Only recorded seats count, and games with at least two of them. None without such a game.
    """
    ends = np.cumsum(columns.turns) - 1
    played = columns.turns > 0
    games: dict[tuple[int, str, str], list[float]] = {}
    for i in np.flatnonzero(played & (columns.game != "")):
        key = (int(columns.file[i]), str(columns.world[i]), str(columns.game[i]))
        games.setdefault(key, []).append(float(columns.held[ends[i], _SHARE]))
    found = [gini(np.array(shares)) for shares in games.values() if len(shares) > 1]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else None
