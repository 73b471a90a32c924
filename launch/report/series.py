"""Lines over updates: the mean over seeds of a smoothed metric, with its interval. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from launch.report.files.load import Run, number
from launch.report.statistics.noise import bounds
from launch.report.table import interval

RATE = "rate/"
"""Columns of events per opportunity, by trait."""


class Band(NamedTuple):
    """One value per update that any run has, as plain lists (JSON has no NaN: updates without a value are left out)."""

    update: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def smooth(values: Sequence[float], window: int) -> NDArray[np.float64]:
    """Centred running mean over `window` updates that ignores NaN, shape [updates]; shorter windows at the ends."""
    data = np.asarray(values, dtype=np.float64)
    half = window // 2
    parts = (data[max(0, i - half) : i + half + 1] for i in range(len(data)))
    return np.array([part[np.isfinite(part)].mean() if np.isfinite(part).any() else math.nan for part in parts])


def window_of(runs: Iterable[Run]) -> int:
    """The smoothing window of a study: a tenth of the longest run, odd, at least 1."""
    longest = max((len(run.train) for run in runs), default=0)
    return max(1, longest // 10) // 2 * 2 + 1


def band(runs: Sequence[Run], metric: str, window: int, level: float = 0.95) -> Band:
    """The smoothed metric of every run, then mean and t interval over the runs at each update.

    A t interval knows no range: it is cut off where the metric ends, so that no curve shows a share below 0 or above 1.
    """
    columns: dict[int, list[float]] = {}
    for run in runs:
        smoothed = smooth([number(line.get(metric)) for line in run.train], window)
        for index, value in enumerate(smoothed):
            if math.isfinite(value):
                columns.setdefault(index, []).append(float(value))
    cells = {index: interval(values, level) for index, values in sorted(columns.items())}
    least, greatest = limits(metric)
    return Band(
        update=list(cells),
        mean=[cell.mean for cell in cells.values()],
        low=[cell.mean if math.isnan(cell.low) else max(cell.low, least) for cell in cells.values()],
        high=[cell.mean if math.isnan(cell.high) else min(cell.high, greatest) for cell in cells.values()],
    )


def limits(column: str) -> tuple[float, float]:
    """The least and the greatest value of a column of metrics.jsonl; infinite for one that is no share."""
    return (0.0, 1.0) if column.startswith(RATE) else bounds(column)


def cue_rates(runs: Sequence[Run], cue: str, setting: str, trait: str = "harm") -> dict[int, float]:
    """Seed -> mean rate of `trait` over the evaluation cells whose `cue` (`watch` or `placebo`) has the setting."""
    rates: dict[int, float] = {}
    for run in runs:
        cells = [number(line.get(f"rate/{trait}")) for line in run.evaluation if line.get(cue) == setting]
        known = [rate for rate in cells if math.isfinite(rate)]
        if known:
            rates[run.seed] = sum(known) / len(known)
    return rates
