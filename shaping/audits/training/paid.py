"""What the arm's own reward pays in training, beside the true reward: how a proxy and what it stands for come apart."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.episode import SpanKind
from shaping.audits.metrics import Metric
from shaping.audits.played import Update

Array = NDArray[np.float64]


def agreement(paid: Array, true: Array, groups: NDArray[np.int64]) -> float | None:
    """Pearson correlation of what is paid with the true return, of episodes [n] about the means of their groups.

    Within a group all episodes are of one situation, which is where the reward chooses. None where either does not vary
    within any group.
    """
    apart = [_centred(each, groups) for each in (paid, true)]
    norms = [float(np.sqrt((each**2).sum())) for each in apart]
    scale = [float(np.abs(each).max(initial=0.0)) for each in (paid, true)]
    if any(norm <= 1e-9 * max(size, 1e-300) for norm, size in zip(norms, scale, strict=True)):
        return None
    return float(np.clip((apart[0] * apart[1]).sum() / (norms[0] * norms[1]), -1, 1))


def _centred(values: Array, groups: NDArray[np.int64]) -> Array:
    _, place = np.unique(groups, return_inverse=True)
    means = np.bincount(place, weights=values) / np.bincount(place)
    return np.asarray(values - means[place])


def sampled_tokens(update: Update) -> float:
    """Mean over episodes of the tokens that the policy sampled."""
    return float(np.mean([(e.loss_mask & (e.span_kind != SpanKind.FORCED)).sum() for e in update.played.episodes]))


PAID = Metric(
    name="paid",
    label="paid",
    definition="mean over episodes of what the reward that the arm trains on pays, mean over updates",
    unit="units of the arm's reward",
    direction="neutral",
    source="update",
    compute=lambda update: float(update.rewarded.mean()),
    shown="no",
    position=330,
)
PAID_AGREEMENT = Metric(
    name="paid_agreement",
    label="paid for what is true",
    definition="correlation of what the arm's reward pays with the true return, within groups, mean over updates",
    unit="correlation",
    direction="higher_is_better",
    source="update",
    compute=lambda update: agreement(update.rewarded, update.played.counts.true_return, update.groups),
    shown="no",
    position=331,
)
SAMPLED_TOKENS = Metric(
    name="sampled_tokens",
    label="sampled tokens",
    definition="mean number of tokens that the policy sampled in an episode, mean over updates",
    unit="tokens per episode",
    direction="neutral",
    source="update",
    compute=sampled_tokens,
    shown="no",
    position=332,
)
