"""Does an intervention's credit keep the order that reward puts episodes in?

A shaper whose credit never ranks a worse episode of a group above a better one is *reward-order preserving*: whatever
it does to motivations, it never makes the lower reward the more reinforced one (compare policy-invariant shaping, Ng,
Harada and Russell, ICML 1999).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shaping.audits.metrics import Metric, mean_over_updates
from shaping.audits.training.selection import comparable
from shaping.learning.credit.advantages import zero_variance as zero_variance

#: Credits closer than this share of the largest one are tied: they are means of 32-bit numbers.
CREDIT_TOLERANCE = 1e-6


class OrderViolations(NamedTuple):
    """Counts over the within-group pairs with different returns."""

    violated: int
    """The lower return got the higher credit."""
    pairs: int
    flattened: int
    """Both got the same credit."""

    @property
    def share(self) -> float | None:
        return self.violated / self.pairs if self.pairs else None

    @property
    def flattened_share(self) -> float | None:
        return self.flattened / self.pairs if self.pairs else None


def order_violations(
    returns: NDArray[np.float64], credit: NDArray[np.float64], groups: NDArray[np.int64]
) -> OrderViolations:
    """Compare every pair of one group: `returns`, `credit` and `groups` have shape [n], one entry per episode.

    Pairs with equal returns (`comparable`) are in no order and are not counted.
    """
    if not returns.shape == credit.shape == groups.shape:
        raise ValueError(
            f"returns, credit and groups must have one entry per episode, got {returns.shape}, {credit.shape}, "
            f"{groups.shape}"
        )
    rounded = comparable(returns, groups)
    tolerance = CREDIT_TOLERANCE * float(np.abs(credit).max(initial=0.0))
    violated = pairs = flattened = 0
    for group in np.unique(groups):
        rows = groups == group
        better = rounded[rows][:, None] > rounded[rows][None, :]
        margin = (credit[rows][:, None] - credit[rows][None, :])[better]
        pairs += margin.size
        violated += int((margin < -tolerance).sum())
        flattened += int((np.abs(margin) <= tolerance).sum())
    return OrderViolations(violated, pairs, flattened)


def describe_order(share: float | None) -> str:
    """A share of inverted pairs in words, to stand beside an arm's family; empty where no pair could be compared."""
    if share is None:
        return ""
    if share == 0:
        return "reward-order preserving"
    return f"not reward-order preserving: inverts {'< 1' if share < 0.01 else f'{100 * share:.0f}'} % of pairs"


_PAIRS = "share of within-group pairs"

ORDER_VIOLATIONS = Metric(
    name="order_violations",
    label="order violations",
    definition="share of within-group pairs whose return order the arm's credit inverts, mean over updates",
    unit=_PAIRS,
    direction="lower_is_better",
    source="update",
    compute=lambda update: order_violations(update.returns, update.credit, update.groups).share,
    shown="main",
    position=110,
)
ORDER_FLATTENED = Metric(
    name="order_flattened",
    label="order flattened",
    definition="share of within-group pairs with different returns to which the arm's credit is the same, mean over "
    "updates",
    unit=_PAIRS,
    direction="lower_is_better",
    source="update",
    compute=lambda update: order_violations(update.returns, update.credit, update.groups).flattened_share,
    shown="no",
    position=115,
)
ZERO_VARIANCE = Metric(
    name="zero_variance",
    label="zero-variance groups",
    definition="share of groups without reward variance, mean over updates",
    unit="share of groups",
    direction="lower_is_better",
    source="update",
    compute=lambda update: zero_variance(update.rewarded, update.groups),
    position=320,
)
UNINFORMATIVE = Metric(
    name="uninformative_groups",
    label="uninformative groups",
    definition="share of groups in which neither rewards nor priced costs vary, mean over updates",
    unit="share of groups",
    direction="lower_is_better",
    source="update",
    compute=lambda update: update.uninformative,
    position=321,
)
REFILLED = Metric(
    name="refilled",
    label="refilled groups",
    definition="share of an update's groups that `train.refill` replaced, mean over updates",
    unit="share of groups",
    direction="neutral",
    source="training",
    compute=mean_over_updates("refilled"),
    shown="no",
    position=323,
)
SPREAD_FLOORED = Metric(
    name="spread_floored",
    label="groups at the floor",
    definition="share of groups whose advantages `learner.spread_floor` divides, mean over updates",
    unit="share of groups",
    direction="neutral",
    source="update",
    compute=lambda update: update.floored,
    position=322,
)
