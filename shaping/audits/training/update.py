"""What one training update did and what it pushed towards: one row of metrics from its episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.audits.metrics import metrics_of, with_column
from shaping.audits.played import Played, Update
from shaping.audits.row import Row
from shaping.learning.credit.credit_parts import CreditPart

Vector = NDArray[np.float64]


def audit_update(
    episodes: Sequence[Episode],
    returns: Vector,
    advantages: Vector,
    credit: Vector,
    groups: NDArray[np.int64],
    *,
    rewarded: Vector | None = None,
    floored: float | None = None,
    uninformative: float | None = None,
    parts: Sequence[CreditPart] = (),
    classify: Callable[[str], str] | None = None,
) -> Row:
    """Metrics of one update; every array has shape [n], one entry per episode.

    `returns` are of the world's own reward, `rewarded` of the one that the arm trains on (by default the same).
    `advantages` are those of the rewards, before any intervention, `credit` the mean per-token advantage that each
    episode is finally trained on, `floored` and `uninformative` shares of its groups, `parts` what each intervention
    added (`Credited`). `selection/...`
    and `selection_within/...` are covariances with `credit`, the whole training signal; `selection_reward/<trait>`
    with `advantages`, the part due to reward, so that their difference is what the interventions add. A trait's
    value in an episode is its events per turn, a motive's the share of turns that state it. `classify` names the
    motive of a text (default: the built-in motive vocabulary). What is not defined, such as the rate of a trait
    without opportunity, is left out.

    Raises `SealedError` on redacted episodes and `ValueError` if an array does not match the episodes.
    """
    rewarded = returns if rewarded is None else rewarded
    arrays = {"returns": returns, "rewarded": rewarded, "advantages": advantages, "credit": credit, "groups": groups}
    for name, array in arrays.items():
        if np.shape(array) != (len(episodes),):
            raise ValueError(
                f"{name} has shape {np.shape(array)}, expected one entry for each of {len(episodes)} episodes"
            )
    if not len(episodes):
        return Row()
    played = Played.of(episodes)
    row = Row()
    for metric in with_column():
        row.add(metric.described, metric.measure(played, metric.column))
    for world, own in played.by_world().items():
        for metric in with_column():
            if metric.column_per_world:
                row.add(metric.described, metric.measure(own, f"{metric.column}/{world}"))
    classify = classify or _built_in_classifier()
    update = Update(
        played, returns, rewarded, advantages, credit, groups, classify, floored, tuple(parts), uninformative
    )
    for metric in metrics_of("update"):
        row.add(metric.described, metric.measure(update))
    return row


def _built_in_classifier() -> Callable[[str], str]:
    from envs.personas.persona import classify_motive

    return classify_motive
