"""How often a preference model is right, how sure it is, and whether the two agree. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from scipy.stats import binomtest

from rewards.preference.data import Examples, PreferenceError

if TYPE_CHECKING:
    from rewards.preference.model import Scorer

Array = NDArray[np.float64]
BINS = 10
RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Bin:
    """Predictions of like probability."""

    low: float
    high: float
    count: int
    predicted: float
    """Their mean."""
    observed: float
    """Share of them that came true."""
    interval: tuple[float, float]
    """Wilson interval of that share, at 95 %, as if the predictions were independent."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """Predicted probabilities against what came true."""

    bins: tuple[Bin, ...]
    """The reliability curve; bins without predictions are left out."""
    brier: float
    """Mean squared error of the probabilities, in [0, 1]."""
    ece: float
    """Expected calibration error: mean of |predicted - observed| over bins, by their counts (arXiv:1706.04599)."""


def calibration(predicted: Array, came_true: NDArray[np.bool_], low: float = 0.0, bins: int = BINS) -> Calibration:
    """Compare probabilities [n] with outcomes [n], in `bins` of equal width from `low` to 1.

    Raises: ValueError for none, for arrays of different shape, or for a probability outside of [low, 1].
    """
    predicted, outcome = np.asarray(predicted, np.float64), np.asarray(came_true, np.float64)
    if predicted.shape != outcome.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(f"need two arrays [n] with n > 0, got shapes {predicted.shape} and {outcome.shape}")
    if not ((predicted >= low) & (predicted <= 1)).all():
        raise ValueError(f"probabilities must be from {low:g} to 1")
    edges = np.linspace(low, 1, bins + 1)
    place = np.clip(np.digitize(predicted, edges[1:-1]), 0, bins - 1)
    found = []
    for number in range(bins):
        inside = place == number
        if count := int(inside.sum()):
            true = int(outcome[inside].sum())
            interval = binomtest(true, count).proportion_ci(method="wilson")
            found.append(
                Bin(
                    float(edges[number]),
                    float(edges[number + 1]),
                    count,
                    float(predicted[inside].mean()),
                    true / count,
                    (float(interval.low), float(interval.high)),
                )
            )
    brier = float(((predicted - outcome) ** 2).mean())
    error = sum(each.count * abs(each.predicted - each.observed) for each in found) / len(predicted)
    return Calibration(tuple(found), brier, float(error))


def bootstrap_mean(values: Array, clusters: Sequence[str], seed: int = 0, level: float = 0.95) -> list[float] | None:
    """Percentile interval of the mean of `values` [n], whole `clusters` [n] resampled: those of one situation agree.

    None with one cluster: nothing can be resampled.
    """
    names, place = np.unique(np.asarray(clusters), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(place, weights=values, minlength=len(names))
    counts = np.bincount(place, minlength=len(names))
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    means = (drawn @ sums) / (drawn @ counts)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return [float(low), float(high)]


def ranked_loss(better: Array, worse: Array) -> float:
    """Mean of -log sigmoid(r_better - r_worse) over pairs [n] (Bradley-Terry), in nats."""
    return float(np.logaddexp(0.0, worse - better).mean())


def evaluate(scorer: Scorer, held_out: Examples) -> dict[str, Any]:
    """What a preference model knows of situations that it was not trained on, for a JSON file.

    Of pairs: `accuracy` (ties count half) with a bootstrap interval over situations, `longer_accuracy` (of the rule
    that the longer answer is better, which a model must beat), `loss` and, unless the score is a log-prob, the
    calibration of sigmoid(|difference|), from .5 to 1. Of labels, with the binary objective: `label_accuracy` and the
    calibration of sigmoid(r).
    """
    found: dict[str, Any] = {"pairs": len(held_out.pairs), "situations": len(held_out.situations)}
    if not len(held_out):
        raise PreferenceError("no held-out examples")
    if held_out.pairs:
        found |= _pairs(scorer, held_out)
    labelled = held_out.as_labels()
    if scorer.objective == "binary":
        scores = scorer.scores([each.answer for each in labelled], longer="cut")
        good = np.array([each.good for each in labelled])
        right = ((scores > 0) == good).astype(np.float64)
        found["label_accuracy"] = float(right.mean())
        found["label_accuracy_interval"] = bootstrap_mean(right, [each.situation for each in labelled])
        found["label_calibration"] = asdict(calibration(expit(scores), good))
    return found


def _pairs(scorer: Scorer, held_out: Examples) -> dict[str, Any]:
    pairs = held_out.pairs
    scores = scorer.scores([answer for pair in pairs for answer in (pair.better, pair.worse)], longer="cut")
    better, worse = scores[0::2], scores[1::2]
    clusters = [pair.situation for pair in pairs]
    right = _right(better - worse)
    lengths = np.array([[sum(len(m.content) for m in each) for each in (pair.better, pair.worse)] for pair in pairs])
    longer = _right((lengths[:, 0] - lengths[:, 1]).astype(np.float64))
    found: dict[str, Any] = {
        "accuracy": float(right.mean()),
        "accuracy_interval": bootstrap_mean(right, clusters),
        "longer_accuracy": float(longer.mean()),
    }
    if scorer.objective != "imitation":  # a difference of log-probs per token is no log-odds of being better
        found["loss"] = ranked_loss(better, worse)
        found["calibration"] = asdict(calibration(expit(np.abs(better - worse)), better > worse, low=0.5))
    return found


def _right(difference: Array) -> Array:
    """1 where the better one has the higher score, 0 where the lower one, .5 where both are the same; shape [n]."""
    return (np.sign(difference) + 1) / 2
