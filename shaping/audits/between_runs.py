"""What shaping costs: the tax on the task at equal tokens, and how much of a wanted trait is retained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Rows = Sequence[Mapping[str, Any]]
WINDOW = 0.2
"""Share of the matched tokens at whose end scores are taken."""


def tax(rows: Rows, reference: Rows, column: str = "true_reward", tokens: str = "loss_tokens") -> float | None:
    """Score of the reference minus that of the run, both after equally many tokens that were learned from.

    The tokens are as many as the shorter run has. A score is the mean of `column` over the updates that end in the last
    fifth of them. Positive: shaping costs something. None if rows lack a column.
    """
    own, other = _curve(rows, column, tokens), _curve(reference, column, tokens)
    if own is None or other is None:
        return None
    matched = min(own[0][-1], other[0][-1])
    return _at(other, matched) - _at(own, matched)


def retention(
    values: Mapping[int, float], reference: Mapping[int, float], *, resamples: int = 2000
) -> tuple[float, float, float] | None:
    """Mean of a wanted quantity / that of the reference, over common seeds, with a 95 % bootstrap interval over these.

    None without a common seed, and if the reference has none of it. With one seed there is no interval: nan.
    """
    seeds = sorted(values.keys() & reference.keys())
    a, b = np.array([values[s] for s in seeds]), np.array([reference[s] for s in seeds])
    if not seeds or not b.mean() > 0:
        return None
    ratio = float(a.mean() / b.mean())
    if len(seeds) == 1:
        return ratio, math.nan, math.nan
    drawn = np.random.default_rng(0).integers(len(seeds), size=(resamples, len(seeds)))
    below = b[drawn].mean(axis=1)
    found = a[drawn].mean(axis=1)[below > 0] / below[below > 0]
    low, high = np.quantile(found, [0.025, 0.975])
    return ratio, float(low), float(high)


Curve = tuple[np.ndarray, np.ndarray]
"""Tokens learned from so far, and the score, per update."""


def _curve(rows: Rows, column: str, tokens: str) -> Curve | None:
    if not rows or any(row.get(name) is None for row in rows for name in (column, tokens)):
        return None
    spent = np.cumsum([float(row[tokens]) for row in rows])
    return (spent, np.array([float(row[column]) for row in rows])) if spent[-1] > 0 else None


def _at(curve: Curve, tokens: float) -> float:
    """Mean score of the updates that end in the last fifth of `tokens`, or of the last one before."""
    spent, score = curve
    inside = (spent > (1 - WINDOW) * tokens) & (spent <= tokens)
    if not inside.any():
        inside = np.arange(len(spent)) == max(int((spent <= tokens).sum()) - 1, 0)
    return float(score[inside].mean())
