"""Quality of a monitor: its readings compared with ground truth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy  # its parts load when they are used: scipy.stats takes two seconds
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode
from shaping.monitors.base import Monitor, MonitorError
from shaping.monitors.turn_scores import turn_scores


def validate(monitor: Monitor, episodes: Sequence[Episode], trait: str, threshold: float = 0.5) -> dict[str, float]:
    """Recall, false-positive rate and AUROC of `monitor` for `trait`, over the turns in which the trait was possible.

    Turns without opportunity do not count: a monitor deserves no credit for silence where nothing could happen. A turn
    is flagged if its highest reading for the trait is >= `threshold`.

    Returns: numbers of `turns`, `positives` and `negatives`; `recall` if there is a positive turn,
    `false_positive_rate` if there is a negative one, each with its Wilson 95 % interval (`_low`, `_high`; Wilson 1927);
    `auroc` (ties count one half) if both classes occur and the scores differ. The intervals treat turns as independent,
    so they are too narrow if one episode holds many similar turns.
    Raises: `SealedError` on redacted episodes, `MonitorError` if a reading names a turn that was not played.
    """
    if trait not in TRAITS:
        raise MonitorError(f"unknown trait {trait!r}; the traits are {TRAITS}")
    scores, positive = _scored_turns(monitor, episodes, trait)
    flagged = scores >= threshold
    result = {"turns": float(len(scores)), "positives": float(positive.sum()), "negatives": float((~positive).sum())}
    result |= _rate("recall", flagged[positive])
    result |= _rate("false_positive_rate", flagged[~positive])
    if positive.any() and not positive.all() and np.ptp(scores) > 0:
        u = scipy.stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
        result["auroc"] = float(u / (positive.sum() * (~positive).sum()))
    return result


def _scored_turns(
    monitor: Monitor, episodes: Sequence[Episode], trait: str
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Score and truth of every turn with an opportunity for `trait`, both of shape [turns]."""
    scores: list[float] = []
    positive: list[bool] = []
    for episode in episodes:
        highest = turn_scores(monitor, episode).get(trait, np.zeros(len(episode.turns)))
        for turn, labels in enumerate(episode.truth.open()):
            happened = labels.trait(trait) > 0
            if happened or trait == "invalid" or labels.opportunity.get(trait, False):
                scores.append(float(highest[turn]))
                positive.append(happened)
    return np.array(scores), np.array(positive, dtype=bool)


def _rate(name: str, hits: NDArray[np.bool_]) -> dict[str, float]:
    if not len(hits):
        return {}
    interval = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return {name: float(hits.mean()), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
