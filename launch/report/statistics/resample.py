"""Bootstrap draws of replicates within subjects: what a claim cannot estimate by a contrast of means."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS = 2000


class Resamples(NamedTuple):
    """Rows of `chosen` are resamples; a replicate in column k counts `weights[k]` times."""

    chosen: NDArray[np.int64]
    """Indices of replicates, [draws, m]."""
    weights: NDArray[np.float64]
    """How many replicates each column stands for, [m]; their sum is n."""


def within(subjects: Sequence[Hashable], draws: int, rng: np.random.Generator) -> Resamples:
    """`draws` resamples of n replicates. Subjects are a fixed choice and no sample of models: they are not resampled.

    Of a subject's k replicates k - 1 are drawn, and each counts k / (k - 1) times: so the variance of a mean is right
    also where k is 2 or 3, where drawing k makes it too small by (k - 1) / k (Rao and Wu 1988, J. Am. Stat. Assoc. 83).
    If a subject has a single replicate, nothing says how much it varies by itself: all replicates are then drawn alike.
    """
    names = np.array([str(subject) for subject in subjects])
    groups = [np.flatnonzero(names == subject) for subject in dict.fromkeys(names.tolist())]
    if any(len(group) < 2 for group in groups):
        groups = [np.arange(len(names))]
    if len(groups[0]) < 2:  # a single replicate has no other to vary with
        return Resamples(np.zeros((draws, len(names)), np.int64), np.ones(len(names)))
    columns = [group[rng.integers(len(group), size=(draws, len(group) - 1))] for group in groups]
    weights = [np.full(len(group) - 1, len(group) / (len(group) - 1)) for group in groups]
    return Resamples(np.concatenate(columns, axis=1), np.concatenate(weights))
