"""Over-optimisation of a proxy reward: true reward against proxy by the distance from the start (arXiv:2210.10760).

The distance is d = sqrt(KL(policy || start)), of whole episodes, in nats^0.5. As a policy is optimised against an
imperfect proxy, the proxy rises with d and the true reward rises, peaks and falls.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from shaping.audits.metrics import Metric

Array = NDArray[np.float64]
COLUMNS = ("kl", "sampled_tokens", "paid", "true_reward")
"""What a row of metrics.jsonl must have to be a point of the curve."""


@dataclass(frozen=True, slots=True)
class Path:
    """One run, by update; arrays have shape [updates]."""

    distance: Array
    """sqrt of the KL of an episode to the policy that the run started from."""
    proxy: Array
    """What the arm's reward paid, per episode."""
    gold: Array
    """True reward, as a share of the largest honest return."""

    def loss_from_peak(self, window: int = 1) -> float:
        """How far the true reward is at the end below its peak; both are running means over `window` updates."""
        smooth = _running(self.gold, window)
        return float(smooth.max() - smooth[-1])


def path_of(rows: Sequence[Mapping[str, Any]]) -> Path | None:
    """The curve of a run, from the rows of its updates; None if fewer than two have all of `COLUMNS`.

    The KL of an episode is that per token times the tokens sampled in an episode. An estimate below zero, which noise
    can give, is taken for zero.
    """
    found = [[float(row[name]) for name in COLUMNS] for row in rows if all(_known(row.get(name)) for name in COLUMNS)]
    if len(found) < 2:
        return None
    kl, tokens, paid, gold = np.array(found).T
    return Path(np.sqrt(np.maximum(kl, 0.0) * tokens), paid, gold)


WINDOW = 5
"""Updates of the running mean by which `true_reward_lost` is taken."""


def true_reward_lost(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """`Path.loss_from_peak` of all updates that have a true reward; None for fewer than two windows."""
    gold = np.array([float(row["true_reward"]) for row in rows if _known(row.get("true_reward"))])
    if len(gold) < 2 * WINDOW:
        return None
    return Path(np.zeros_like(gold), np.zeros_like(gold), gold).loss_from_peak(WINDOW)


TRUE_REWARD_LOST = Metric(
    name="true_reward_lost",
    label="true reward lost",
    definition=f"peak of the true reward in training - that at its end, of running means over {WINDOW} updates",
    unit="share of the largest honest return",
    direction="lower_is_better",
    source="training",
    compute=true_reward_lost,
    shown="no",
    position=333,
)


def _known(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _running(values: Array, window: int) -> Array:
    half = window // 2
    return np.array([values[max(0, i - half) : i + half + 1].mean() for i in range(len(values))])


@dataclass(frozen=True, slots=True)
class Law:
    """gold(d) = start + d (alpha - beta log d), the form of reinforcement learning in arXiv:2210.10760."""

    start: float
    alpha: float
    """Gain of the first steps: how well the proxy points."""
    beta: float
    """How fast the gain is lost; above 0, the true reward peaks."""

    def at(self, distance: Array) -> Array:
        """Its values, 0 included."""
        safe = np.where(distance > 0, distance, 1.0)
        return np.asarray(self.start + np.where(distance > 0, distance * (self.alpha - self.beta * np.log(safe)), 0.0))

    @property
    def peak(self) -> float | None:
        """The distance of the highest true reward, exp(alpha / beta - 1); None if it has no peak."""
        if self.beta <= 0 or (power := self.alpha / self.beta - 1) > 700:
            return None
        return math.exp(power)

    @property
    def peak_gain(self) -> float | None:
        """How much higher the true reward is there than at the start: beta times that distance."""
        return None if (peak := self.peak) is None else self.beta * peak


def law(distance: Array, gold: Array) -> Law | None:
    """The least-squares fit of `Law` to points [n]; None if they do not determine its three numbers."""
    distance, gold = np.asarray(distance, np.float64), np.asarray(gold, np.float64)
    if distance.shape != gold.shape or distance.ndim != 1:
        raise ValueError(f"distance and gold must have one shape [n], got {distance.shape} and {gold.shape}")
    if (distance < 0).any() or not (np.isfinite(distance).all() and np.isfinite(gold).all()):
        raise ValueError("distances must be finite and not negative, and rewards finite")
    safe = np.where(distance > 0, distance, 1.0)
    design = np.column_stack([np.ones_like(distance), distance, -distance * np.log(safe)])
    found, _, rank, _ = np.linalg.lstsq(design, gold, rcond=None)
    return Law(*found.tolist()) if rank == 3 and len(gold) >= 3 else None


def best_of(proxy: Array, gold: Array, n: int) -> float:
    """Expected true reward of the best of `n` by the proxy, from m >= n episodes of one situation, shapes [m].

    The mean over all subsets of size n, in closed form: sorted by the proxy, the i-th of m is the best of
    C(i - 1, n - 1) of the C(m, n) subsets. Ties are broken by order. The distance of such a policy is that of
    `best_of_kl`. Raises: ValueError unless 1 <= n <= m.
    """
    proxy, gold = np.asarray(proxy, np.float64), np.asarray(gold, np.float64)
    m = len(proxy)
    if proxy.shape != gold.shape or proxy.ndim != 1 or not 1 <= n <= m:
        raise ValueError(f"need arrays of one shape [m] and n from 1 to m, got {proxy.shape}, {gold.shape}, n = {n}")
    ranked = gold[np.argsort(proxy, kind="stable")]
    place = np.arange(n, m + 1)
    weights = np.exp(_log_choose(place - 1, n - 1) - _log_choose(np.array(m), n))
    return float((weights * ranked[n - 1 :]).sum())


def best_of_kl(n: int) -> float:
    """KL of the best-of-n policy to the sampler, log n - (n - 1) / n nats, an upper bound (arXiv:2401.01879)."""
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    return math.log(n) - (n - 1) / n


def _log_choose(total: NDArray[Any], chosen: int) -> Array:
    return np.asarray(gammaln(total + 1.0) - gammaln(chosen + 1.0) - gammaln(total - chosen + 1.0))
