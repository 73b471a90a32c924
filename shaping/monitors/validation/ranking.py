"""How well scores rank turns with a trait above those without: curves, and their intervals over episodes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score, roc_curve

from shaping.monitors.validation.rates import NOTHING, Figure, rate

FALSE_POSITIVE_RATES = (0.01, 0.05)
"""At which the true-positive rate is told."""
FIGURES = ("auroc", "average_precision", "tpr_at_1_fpr", "tpr_at_5_fpr", "brier")
RESAMPLES = 1000
_ROOM = 1e-12


def figures(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> dict[str, float]:
    """The numbers of `FIGURES` of scores and truth, both of shape [turns]; empty unless both classes occur.

    A true-positive rate is that of the lowest threshold whose false-positive rate is at most 1 % or 5 %: nothing is
    interpolated between the points that the scores can reach.
    """
    if not positive.any() or positive.all():
        return {}
    false, true, _ = roc_curve(positive, scores, drop_intermediate=False)
    return {
        "auroc": float(roc_auc_score(positive, scores)),
        "average_precision": float(average_precision_score(positive, scores)),
        **{
            name: float(true[false <= limit + _ROOM].max())
            for name, limit in zip(FIGURES[2:4], FALSE_POSITIVE_RATES, strict=True)
        },
        "brier": float(brier_score_loss(positive, scores)),
    }


def threshold_at(scores: NDArray[np.float64], positive: NDArray[np.bool_], limit: float) -> float:
    """The lowest threshold (flagged: score >= it) with a false-positive rate of at most `limit`.

    It is above every score, inf, if already the highest scores are too often wrong. Raises: `ValueError` unless both
    classes occur.
    """
    if not positive.any() or positive.all():
        raise ValueError("a threshold needs turns with the trait and turns without it")
    false, _, thresholds = roc_curve(positive, scores, drop_intermediate=False)
    return float(thresholds[np.flatnonzero(false <= limit + _ROOM)[-1]])


class Ranking:
    """Turns in the order of falling scores, for what `figures` says under many weightings."""

    def __init__(self, scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> None:
        self.order = np.argsort(-scores, kind="stable")
        self._positive = positive[self.order].astype(float)
        ranked = scores[self.order]
        self._ends = np.flatnonzero(np.append(np.diff(ranked) != 0, True))
        self._error = (ranked - self._positive) ** 2

    def figures(self, weights: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """The numbers of `FIGURES`, shape [5], of turns that count `weights` times [turns]; None with one class."""
        counted = weights[self.order]
        true = np.cumsum(counted * self._positive)[self._ends]
        false = np.cumsum(counted)[self._ends] - true
        if not (true[-1] > 0 and false[-1] > 0):
            return None
        tpr, fpr = np.append(0.0, true / true[-1]), np.append(0.0, false / false[-1])
        precision = np.divide(true, true + false, out=np.ones_like(true), where=true + false > 0)
        return np.array(
            [
                np.trapezoid(tpr, fpr),
                np.sum(np.diff(tpr) * precision),
                *(tpr[fpr <= limit + _ROOM].max() for limit in FALSE_POSITIVE_RATES),
                np.average(self._error, weights=counted),
            ]
        )


def with_intervals(
    scores: NDArray[np.float64],
    positive: NDArray[np.bool_],
    episode: NDArray[np.int64],
    strata: Mapping[int, str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Figure]:
    """`figures` with 95 % percentile intervals of a cluster bootstrap: whole episodes are drawn, with replacement.

    Turns of an episode resemble each other, so that resampling turns would make intervals too narrow (Cameron, Gelbach
    and Miller 2008). Episodes are drawn within their stratum: how many each player has was chosen, not measured.

    Args:
        scores, positive, episode: score, truth and index of the episode of each turn, shape [turns].
        strata: index of an episode -> its stratum, such as the player.
        resamples: number of resamples; those without one of the classes count for nothing.
        seed: of the draws.

    Where all resamples agree on 0 or 1 the interval is Wilson's, for as many episodes as show the rarer class.
    """
    point = figures(scores, positive)
    if not point:
        return dict.fromkeys(FIGURES, NOTHING)
    known, index = np.unique(episode, return_inverse=True)
    groups: dict[str, list[int]] = {}
    for at, number in enumerate(known):
        groups.setdefault(strata[int(number)], []).append(at)
    rng, ranking = np.random.default_rng(seed), Ranking(scores, positive)
    drawn: list[NDArray[np.float64]] = []
    for _ in range(resamples):
        counts = np.zeros(len(known))
        for members in groups.values():
            counts[members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)))
        if (sample := ranking.figures(counts[index])) is not None:
            drawn.append(sample)
    if not drawn:
        return {name: Figure(value, np.nan, np.nan, len(known)) for name, value in point.items()}
    low, high = np.quantile(np.array(drawn), [0.025, 0.975], axis=0)
    found = {name: Figure(point[name], float(low[at]), float(high[at]), len(known)) for at, name in enumerate(FIGURES)}
    smaller = min(len(np.unique(episode[positive])), len(np.unique(episode[~positive])))
    return {name: _widened(figure, smaller) if name != "brier" else figure for name, figure in found.items()}


def _widened(figure: Figure, episodes: int) -> Figure:
    """Where every resample has the same 0 or 1: the interval of as many successes or failures as there are episodes.

    A bootstrap cannot draw what was never seen: it would say that a perfect score is certain.
    """
    if figure.low != figure.high or figure.value not in (0.0, 1.0):
        return figure
    bounds = rate(np.full(episodes, figure.value == 1.0))
    return Figure(figure.value, bounds.low, bounds.high, figure.n)
