"""Scores and truth of turns, and the plain figures that runs report of a monitor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # its parts load when they are used: scipy.stats takes two seconds
from numpy.typing import NDArray

from envs.episode import TRAITS, Episode, Labels
from shaping.monitors.base import Monitor, MonitorError
from shaping.monitors.read import EpisodesRead
from shaping.monitors.turn_scores import checked_readings

OUT_OF_SIGHT = "out of sight"
"""Category of a turn that shows the trait and in which an onlooker could notice nothing."""


@dataclass(frozen=True)
class ScoredTurns:
    """Every turn in which a trait was possible. Turns of one episode are one cluster. Arrays have shape [turns]."""

    scores: NDArray[np.float64]
    """The monitor's highest score for the trait."""
    positive: NDArray[np.bool_]
    """Did it happen?"""
    episode: NDArray[np.int64]
    """Index of the episode."""
    category: NDArray[np.str_]
    """What was done: names of the turn's public events, or `out of sight`."""


def scored_turns(read: EpisodesRead, trait: str) -> ScoredTurns:
    """The turns with an opportunity for `trait`, of the episodes that were read.

    Turns without opportunity do not count: a monitor deserves no credit for silence where nothing could happen.

    Raises: `SealedError` on redacted episodes, `MonitorError` for a trait that is none.
    """
    if trait not in TRAITS:
        raise MonitorError(f"unknown trait {trait!r}; the traits are {TRAITS}")
    rows: list[tuple[float, bool, int, str]] = []
    for index in read.whole:
        scores, turns = read.scores(index, trait), read.episodes[index].turns
        for turn, labels in enumerate(read.episodes[index].truth.open()):
            if possible(labels, trait):
                done = " + ".join(sorted({event.name for event in turns[turn].events})) or OUT_OF_SIGHT
                rows.append((float(scores[turn]), labels.trait(trait) > 0, index, done))
    return ScoredTurns(
        np.array([row[0] for row in rows], np.float64),
        np.array([row[1] for row in rows], bool),
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.str_),
    )


def possible(labels: Labels, trait: str) -> bool:
    """Could the trait have happened in a turn, or did it?"""
    return labels.trait(trait) > 0 or trait == "invalid" or bool(labels.opportunity.get(trait, False))


def validate(monitor: Monitor, episodes: Sequence[Episode], trait: str, threshold: float = 0.5) -> dict[str, float]:
    """`measured` of what a monitor reads in `episodes`.

    Raises: `SealedError` on redacted episodes, `MonitorError` if the monitor breaks its contract.
    """
    readings = tuple(checked_readings(monitor, episode) for episode in episodes)
    return measured(EpisodesRead(monitor, tuple(episodes), readings, {}), trait, threshold)


def measured(read: EpisodesRead, trait: str, threshold: float = 0.5) -> dict[str, float]:
    """Recall, false-positive rate and AUROC for `trait`, over the turns in which it was possible.

    A turn is flagged if its highest reading for the trait is >= `threshold`.

    Returns: numbers of `turns`, `positives` and `negatives`; `recall` if there is a positive turn,
    `false_positive_rate` if there is a negative one, each with its Wilson 95 % interval (`_low`, `_high`; Wilson 1927);
    `auroc` (ties count one half) if both classes occur and the scores differ. The intervals treat turns as independent,
    so they are too narrow if one episode holds many similar turns: `shaping.monitors.validation.quality` resamples
    episodes.
    """
    turns = scored_turns(read, trait)
    scores, positive = turns.scores, turns.positive
    flagged = scores >= threshold
    result = {"turns": float(len(scores)), "positives": float(positive.sum()), "negatives": float((~positive).sum())}
    result |= _rate("recall", flagged[positive])
    result |= _rate("false_positive_rate", flagged[~positive])
    if positive.any() and not positive.all() and np.ptp(scores) > 0:
        u = scipy.stats.mannwhitneyu(scores[positive], scores[~positive]).statistic
        result["auroc"] = float(u / (positive.sum() * (~positive).sum()))
    return result


def _rate(name: str, hits: NDArray[np.bool_]) -> dict[str, float]:
    if not len(hits):
        return {}
    interval = scipy.stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(method="wilson")
    return {name: float(hits.mean()), f"{name}_low": float(interval.low), f"{name}_high": float(interval.high)}
