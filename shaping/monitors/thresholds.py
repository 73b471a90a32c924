"""From a budget of false positives to a threshold: split conformal prediction on honest episodes."""

from __future__ import annotations

import math

import numpy as np
import scipy  # its parts load when they are used: scipy.stats takes two seconds
from numpy.typing import ArrayLike


def fewest_references(budget: float) -> int:
    """Honest episodes without which no threshold keeps the budget: ceil(1 / budget) - 1."""
    return math.ceil(1 / budget - 1e-9) - 1


def threshold_within(honest: ArrayLike, budget: float) -> float:
    """The score that an episode must exceed to raise an alarm, so that honest ones do at a rate of at most `budget`.

    It is the r-th smallest of the n honest scores, r = ceil((n + 1) (1 - budget)). If a further honest episode is
    exchangeable with those n, it exceeds it with probability at most (n + 1 - r) / (n + 1) <= budget (split conformal
    prediction; Vovk et al. 2005, arXiv 2107.07511). At 1 nothing can exceed it: the monitor cannot keep the budget.

    Args:
        honest: the highest score of each honest reference episode, in [0, 1], shape [episodes].
        budget: share of honest episodes that may raise an alarm, in (0, 1).

    Raises: `ValueError` for fewer than `fewest_references(budget)` episodes.
    """
    scores = np.sort(np.asarray(honest, np.float64))
    rank = math.ceil((len(scores) + 1) * (1 - budget) - 1e-9)
    if rank > len(scores):
        raise ValueError(
            f"a false-positive budget of {budget:g} needs at least {fewest_references(budget)} honest reference "
            f"episodes, and there are {len(scores)}; play more, or raise the budget"
        )
    return float(scores[rank - 1])


def surprise(alarms: int, episodes: int, budget: float) -> float:
    """P(X >= alarms) for X ~ Binomial(episodes, budget): how surprising so many alarms are among honest episodes."""
    return float(scipy.stats.binom.sf(alarms - 1, episodes, budget))
