"""How strong is one kind of seat against another? Elo differences from the returns of games that both played."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

SCALE = 400.0
"""Elo points per factor of ten in the odds."""


def expected_score(difference: float) -> float:
    """Expected score of the stronger side, (0, 1), for a rating difference in Elo points.

    1 / (1 + 10^(-difference / 400)): the logistic form of Elo, The Rating of Chessplayers (1978), which is the model of
    Bradley and Terry (1952).
    """
    return float(1.0 / (1.0 + 10.0 ** (-difference / SCALE)))


def difference(score: float, games: float) -> float:
    """The rating difference, in Elo points, at which `score` (wins + draws / 2) out of `games` is expected.

    The inverse of `expected_score`, with half a win added to each side (Haldane's correction), so that a clean sweep
    gives a finite number. Raises `ValueError` unless 0 <= score <= games.
    """
    if not 0 <= score <= games:
        raise ValueError(f"a score of {score} out of {games} games is impossible")
    return SCALE * log10((score + 0.5) / (games - score + 0.5))


def elo_of_seats(returns: ArrayLike, shaped: ArrayLike, tolerance: float = 1e-9) -> tuple[float, int]:
    """Elo of shaped seats minus that of unshaped ones, and the number of comparisons behind it.

    `returns`: (games, seats), any unit; `shaped`: (games, seats) or (seats,), bool. In every game each shaped seat is
    compared with each unshaped one; the higher return wins, and returns within `tolerance` draw. A game of n seats thus
    counts as its pairs, as is usual for ranked free-for-alls (e.g. arXiv 2504.04072 for social deduction). Comparisons
    within one game are not independent: take intervals by resampling games. Games in which all seats are of one kind
    count nothing. Raises `ValueError` if no game has both kinds, or for shapes that do not fit.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"returns must be (games, seats), got shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("returns must be finite")
    try:
        kind: NDArray[np.bool_] = np.broadcast_to(np.asarray(shaped, dtype=np.bool_), values.shape)
    except ValueError:
        raise ValueError(f"shaped has shape {np.shape(shaped)}; it must be (seats,) or {values.shape}") from None
    margins = values[:, :, None] - values[:, None, :]
    pairs = kind[:, :, None] & ~kind[:, None, :]
    games = int(pairs.sum())
    if not games:
        raise ValueError("no game has both shaped and unshaped seats")
    score = float((pairs & (margins > tolerance)).sum() + 0.5 * (pairs & (abs(margins) <= tolerance)).sum())
    return difference(score, games), games


class EloInterval(NamedTuple):
    """A rating difference in Elo points, with the ends of its interval."""

    difference: float
    low: float
    high: float
    games: int
    """Games with both sides."""


def elo_interval(
    games: Sequence[tuple[Sequence[float], Sequence[float]]],
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
    tolerance: float = 1e-9,
) -> EloInterval | None:
    """Elo of one side minus that of another, with a bootstrap interval over games; None if no game has both.

    Args:
        games: per game the returns of the one side's seats, and those of the other's. Seats of neither are left out.
        seed: of the bootstrap.
        resamples: of the games, as wholes: comparisons within one are not independent.
        level: of the interval, which is that of percentiles.
        tolerance: returns within it draw.
    """
    scores, counts = [], []
    for ours, theirs in games:
        margins = np.subtract.outer(np.asarray(ours, np.float64), np.asarray(theirs, np.float64))
        if margins.size:
            scores.append(float((margins > tolerance).sum() + 0.5 * (abs(margins) <= tolerance).sum()))
            counts.append(float(margins.size))
    if not scores:
        return None
    score, count = np.array(scores), np.array(counts)
    rows = np.random.default_rng(seed).integers(len(score), size=(resamples, len(score)))
    drawn = [difference(s, n) for s, n in zip(score[rows].sum(axis=1), count[rows].sum(axis=1), strict=True)]
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return EloInterval(difference(score.sum(), count.sum()), float(low), float(high), len(score))
