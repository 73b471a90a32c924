"""A rate's log-odds fitted by a dose, with the subject as a fixed effect, and bounds from resampled replicates."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from launch.report.statistics.resample import DRAWS, within

Vector = NDArray[np.float64]
ENOUGH = 0.95
"""Share of the resamples that must have a slope for its bounds to be believed."""


@dataclass(frozen=True)
class Slope:
    """Log-odds per unit of dose: the estimate and its bounds, of which each errs in alpha of the studies."""

    mean: float
    low: float
    high: float


def empirical_logits(shares: Vector, counts: Vector) -> Vector:
    """log((k + 1/2) / (n - k + 1/2)) of k = share x n of n: finite at 0 and 1 (Haldane 1956, Ann. Hum. Genet. 20)."""
    return np.log((shares * counts + 0.5) / ((1 - shares) * counts + 0.5))


def slope(
    doses: Sequence[float],
    shares: Sequence[float],
    counts: Sequence[float],
    subjects: Sequence[Hashable],
    *,
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> Slope | None:
    """Least squares of the empirical logits on the dose, with an intercept per subject; None if no subject has two.

    Args:
        doses: of each run, [n].
        shares: of its episodes that show the trait, in [0, 1], [n].
        counts: its episodes, [n].
        subjects: the subject of each run, [n].
        alpha: error rate of each bound (percentile bootstrap over runs, within subjects).
        draws: resamples.
        seed: of the resamples.
    """
    x, y = np.asarray(doses, float), empirical_logits(np.asarray(shares, float), np.asarray(counts, float))
    whose = np.unique([str(subject) for subject in subjects], return_inverse=True)[1]
    own = _slopes(x[None], y[None], whose[None], np.ones(len(x)))[0]
    if not np.isfinite(own):
        return None
    chosen, weights = within(subjects, draws, np.random.default_rng(seed))
    found = _slopes(x[chosen], y[chosen], whose[chosen], weights)
    return _bounded(float(own), found, alpha)


def given_dose(
    marks: Sequence[float],
    doses: Sequence[float],
    shares: Sequence[float],
    counts: Sequence[float],
    subjects: Sequence[Hashable],
    *,
    alpha: float = 0.05,
    draws: int = DRAWS,
    seed: int = 0,
) -> Slope | None:
    """The coefficient of a mark (0 or 1) beside the dose and an intercept per subject, in the fit of `slope`.

    None if the mark follows from dose and subject, so that nothing is left to estimate it from. Arguments are those of
    `slope`; `marks` of each run, [n].
    """
    z, x = np.asarray(marks, float), np.asarray(doses, float)
    y = empirical_logits(np.asarray(shares, float), np.asarray(counts, float))
    names = np.array([str(subject) for subject in subjects])
    design = np.column_stack([z, x, *(names == name for name in np.unique(names))]).astype(float)
    own = _first_coefficient(design, y, np.ones(len(y)))
    if not np.isfinite(own):
        return None
    chosen, weights = within(subjects, draws, np.random.default_rng(seed))
    found = np.array([_first_coefficient(design[rows], y[rows], weights) for rows in chosen])
    return _bounded(own, found, alpha)


def _bounded(own: float, found: Vector, alpha: float) -> Slope:
    """The estimate with percentiles of its resamples [draws] as bounds; nan if too few of them have a value."""
    finite = found[np.isfinite(found)]
    if len(finite) < ENOUGH * len(found):
        return Slope(own, float("nan"), float("nan"))
    low, high = np.quantile(finite, [alpha, 1 - alpha])
    return Slope(own, float(low), float(high))


def _first_coefficient(design: Vector, y: Vector, weights: Vector) -> float:
    """Weighted least squares; nan where the first column is a combination of the others."""
    root = np.sqrt(weights)
    first, rest = design[:, 0] * root, design[:, 1:] * root[:, None]
    left = first - rest @ np.linalg.lstsq(rest, first, rcond=None)[0]  # Frisch and Waugh 1933, Econometrica 1
    size = float(left @ left)
    return float(left @ (y * root)) / size if size > 1e-9 * max(float(first @ first), 1e-300) else float("nan")


def _slopes(x: Vector, y: Vector, whose: NDArray[np.int64], weights: Vector) -> Vector:
    """Slopes of many samples [draws, n] of the subjects `whose`; nan where the dose does not vary within a subject."""
    top, bottom = np.zeros(len(x)), np.zeros(len(x))
    for subject in np.unique(whose):
        counted = weights * (whose == subject)
        total = counted.sum(axis=1, keepdims=True)
        centred = x - (counted * x).sum(axis=1, keepdims=True) / np.where(total > 0, total, 1.0)
        top += (counted * centred * y).sum(axis=1)
        bottom += (counted * centred**2).sum(axis=1)
    smallest = 1e-12 * max(float(np.abs(x).max(initial=0.0)) ** 2, 1e-300)
    return np.where(bottom > smallest, top / np.where(bottom > smallest, bottom, 1.0), np.nan)
