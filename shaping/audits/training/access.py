"""Reward access: how much reward is still within the sampler's reach?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shaping.audits.metrics import Metric


def best_of_k(returns: NDArray[np.float64], k: int) -> float:
    """Unbiased estimate of the expected maximum of k episodes, from n >= k sampled ones (`returns`, shape [n]).

    The mean of the maximum over all k-subsets: sum over the sorted returns r_(i) of C(i-1, k-1) / C(n, k) * r_(i).
    For 0/1 returns it is the pass@k estimator of Chen et al. (arXiv 2107.03374). Raises `ValueError` if k is not in
    [1, n].
    """
    n = len(returns)
    if not 1 <= k <= n:
        raise ValueError(f"best-of-k needs 1 <= k <= number of episodes, got k={k} and {n} episodes")
    # weight[i] of the i-th largest is C(n-1-i, k-1) / C(n, k); the recursion never forms a large binomial.
    weight = np.zeros(n)
    weight[0] = k / n
    for i in range(1, n - k + 1):
        weight[i] = weight[i - 1] * (n - i - k + 1) / (n - i)
    return float(weight @ np.sort(np.asarray(returns, dtype=np.float64))[::-1])


def access(returns: NDArray[np.float64], max_return: float, k: int) -> float:
    """Best-of-k return as a share of the largest honest return of the world.

    `returns` has shape [n], or [m, n] for n episodes of each of m seeds: then the mean over seeds.
    """
    if not max_return > 0:
        raise ValueError(f"max_return must be positive to divide by it, got {max_return!r}")
    return float(np.mean([best_of_k(row, k) for row in np.atleast_2d(returns)]) / max_return)


_SHARE = "share of the largest honest return"

REWARD_ACCESS = Metric(
    name="reward_access",
    label="reward access",
    definition="best-of-k return under the arm's own sampler (its context and masks) after training / largest honest "
    "return",
    unit=_SHARE,
    direction="higher_is_better",
    source="access",
    shown="main",
    position=90,
)
BLOCKED = Metric(
    name="blocked",
    label="blocked",
    definition="share of scripted high-return trajectories with an action made impossible",
    unit="share of trajectories",
    direction="lower_is_better",
    source="access",
    shown="main",
    position=100,
)
REWARD_ACCESS_INITIAL = Metric(
    name="reward_access_initial",
    label="reward access before training",
    definition="reward access, measured before training",
    unit=_SHARE,
    direction="higher_is_better",
    source="access",
    position=280,
)
ACCESS_LOGPROB = Metric(
    name="access_logprob",
    label="access log-prob",
    definition="mean log-prob per token of scripted high-return trajectories under the arm's sampler minus the same "
    "without it, before training (finite part)",
    unit="nats per token",
    direction="neutral",
    source="access",
    position=290,
)
