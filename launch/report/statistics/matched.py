"""Arms of several strengths compared at equal harm: monotone curves, read off at one value, with resampled bounds.

A curve has one point per strength: the mean monitored harm and the mean of the outcome over replicates. It is made
monotone by isotonic regression (Barlow et al. 1972, Statistical Inference under Order Restrictions), rising or falling,
whichever fits better, and is linear between its points. Nothing is read off beyond its ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from launch.report.statistics.resample import DRAWS, within

Vector = NDArray[np.float64]
REACHED = 0.95
"""Share of the resamples in which a curve must reach the harm asked for, to be compared there."""


class Replicate(NamedTuple):
    """One run of an arm."""

    subject: str
    harm: float
    outcome: float


@dataclass(frozen=True)
class Reading:
    """The outcome of a curve at the harm asked for, with bounds that each err in alpha of the studies."""

    mean: float
    low: float
    high: float
    reached: float
    """Share of the resamples in which the curve reaches that harm; below `REACHED` it has no bounds."""


@dataclass(frozen=True)
class Matched:
    """All curves at one harm, and the differences of pairs of them."""

    harm: float
    """The harm at which they are compared: a share of the reference's mean."""
    readings: Mapping[str, Reading]
    differences: Mapping[tuple[str, str], Reading]
    """(curve, other curve) -> outcome of the first minus that of the second."""


def fitted(harm: Vector, outcome: Vector) -> tuple[Vector, Vector]:
    """The points of the monotone curve, by growing harm; points of equal harm are pooled."""
    knots, member = np.unique(harm, return_inverse=True)
    weights = np.bincount(member).astype(float)
    means = np.bincount(member, weights=outcome) / weights
    rising = isotonic_regression(means, weights=weights, increasing=True).x
    falling = isotonic_regression(means, weights=weights, increasing=False).x
    errors = [float((weights * (fit - means) ** 2).sum()) for fit in (rising, falling)]
    return knots, rising if errors[0] <= errors[1] else falling


def read_off(harm: Vector, outcome: Vector, at: float) -> float:
    """The outcome of the monotone curve at this harm; nan beyond its ends."""
    knots, values = fitted(harm, outcome)
    if not knots[0] <= at <= knots[-1]:
        return float("nan")
    return float(np.interp(at, knots, values))


def matched(
    curves: Mapping[str, Sequence[Sequence[Replicate]]],
    reference: Sequence[Replicate],
    pairs: Sequence[tuple[str, str]],
    *,
    share: float = 0.5,
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> Matched:
    """Every curve at `share` of the reference's mean harm, and the difference of each pair.

    Args:
        curves: curve -> its strengths, each the replicates of one arm; the reference is added as strength 0 of all.
        reference: replicates of the unshaped arm.
        pairs: which curve minus which.
        share: of the reference's mean harm.
        alpha: error rate of each bound (percentile bootstrap over replicates, within arms and subjects).
        draws: resamples.
        seed: of the resamples.
    Raises: `ValueError` if an arm has no replicate.
    """
    rng = np.random.default_rng(seed)
    base = _means(reference, draws, rng)
    arms = {name: [_means(arm, draws, rng) for arm in strengths] + [base] for name, strengths in curves.items()}
    at = share * base[0][0]  # row 0 is the sample itself, the others are its resamples
    values = {}
    for name, strengths in arms.items():
        points = np.stack(strengths, axis=-1)  # [2, 1 + draws, strengths]
        values[name] = np.array(
            [read_off(h, o, share * b) for h, o, b in zip(points[0], points[1], base[0], strict=True)]
        )
    readings = {name: _reading(own, alpha) for name, own in values.items()}
    differences = {(one, other): _reading(values[one] - values[other], alpha) for one, other in pairs}
    return Matched(float(at), readings, differences)


def _means(replicates: Sequence[Replicate], draws: int, rng: np.random.Generator) -> Vector:
    """Mean harm and outcome of the sample and of its resamples, [2, 1 + draws]."""
    if not replicates:
        raise ValueError("an arm without a replicate is on no curve")
    chosen, weights = within([each.subject for each in replicates], draws, rng)
    found = []
    for values in (np.array([each.harm for each in replicates]), np.array([each.outcome for each in replicates])):
        resampled = values[chosen] @ weights / weights.sum()
        found.append(np.concatenate([[values.mean()], resampled]))
    return np.stack(found)


def _reading(values: Vector, alpha: float) -> Reading:
    own, found = float(values[0]), values[1:][np.isfinite(values[1:])]
    reached = len(found) / max(len(values) - 1, 1)
    if reached < REACHED or not np.isfinite(own):
        return Reading(own, float("nan"), float("nan"), reached)
    low, high = np.quantile(found, [alpha, 1 - alpha])
    return Reading(own, float(low), float(high), reached)
