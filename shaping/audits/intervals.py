"""Intervals and tests over seeds and clusters.

The unit of replication is the training seed (or the cluster: episode, question, world), never the turn: turns of one
episode are not independent draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import scipy  # its parts load when they are used: scipy.stats takes two seconds
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def mean_interval(values: Sequence[float] | Vector, level: float = 0.95) -> tuple[float, float, float]:
    """Mean and t interval of `values`[n] (one per seed): (mean, low, high).

    One value has no interval: (value, nan, nan). Raises `ValueError` without values or if one is not finite.
    """
    data = _finite(values)
    mean = float(data.mean())
    if len(data) == 1:
        return mean, math.nan, math.nan
    half = float(scipy.stats.t.ppf((1 + level) / 2, len(data) - 1) * data.std(ddof=1) / math.sqrt(len(data)))
    return mean, mean - half, mean + half


def paired_pvalue(a: Mapping[int, float], b: Mapping[int, float]) -> float:
    """Two-sided paired t test of a = b over common seeds; nan with fewer than two."""
    seeds = sorted(a.keys() & b.keys())
    if len(seeds) < 2:
        return math.nan
    differences = _finite([a[seed] - b[seed] for seed in seeds])
    if np.ptp(differences) == 0:
        return 1.0 if differences[0] == 0 else 0.0
    return float(scipy.stats.ttest_1samp(differences, 0.0).pvalue)


def holm(pvalues: Sequence[float] | Vector) -> Vector:
    """Step-down adjusted p-values, in the order given, shape [m] (Holm 1979, Scand. J. Statist. 6).

    Controls the family-wise error under any dependence: reject where the adjusted value is <= alpha.
    """
    p = _finite(pvalues) if len(pvalues) else np.zeros(0)
    if ((p < 0) | (p > 1)).any():
        raise ValueError(f"p-values must be in [0, 1], got {p.tolist()}")
    order = np.argsort(p, kind="stable")
    scaled = np.minimum(1.0, p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(scaled)
    return adjusted


def bootstrap_interval(
    values: Sequence[float] | Vector,
    clusters: Sequence[Hashable],
    *,
    statistic: Callable[[Vector], float] = lambda sample: float(sample.mean()),
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """Percentile bootstrap that resamples whole clusters: (statistic, low, high) of `values`[n], `clusters`[n].

    With a single cluster there is nothing to resample: (statistic, nan, nan). Equal seeds give equal intervals.
    """
    data = _finite(values)
    if len(clusters) != len(data):
        raise ValueError(f"one cluster per value is needed, got {len(clusters)} clusters for {len(data)} values")
    members: dict[Hashable, list[int]] = {}
    for index, cluster in enumerate(clusters):
        members.setdefault(cluster, []).append(index)
    parts = [data[rows] for rows in members.values()]
    estimate = float(statistic(data))
    if len(parts) == 1:
        return estimate, math.nan, math.nan
    draws = np.random.default_rng(seed).integers(len(parts), size=(resamples, len(parts)))
    if len(parts) == len(data):  # the same values in the same order as below, without a loop over clusters
        singles = np.concatenate(parts)
        resampled = [statistic(singles[draw]) for draw in draws]
    else:
        resampled = [statistic(np.concatenate([parts[i] for i in draw])) for draw in draws]
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return estimate, float(low), float(high)


def _finite(values: Sequence[float] | Vector) -> Vector:
    data = np.asarray(values, dtype=np.float64)
    if data.ndim != 1 or not len(data):
        raise ValueError(f"expected at least one value in one dimension, got shape {data.shape}")
    if not np.isfinite(data).all():
        raise ValueError(f"values must be finite (leave missing ones out), got {data.tolist()}")
    return data
