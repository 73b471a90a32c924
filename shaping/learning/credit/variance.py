"""Groups in which nothing differs, so that an update spent on them teaches nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shaping.learning.config import AdvantageLevel
from shaping.learning.credit.advantages import estimate, turns_compared
from shaping.learning.samples.sample import Array


def uninformative(
    amounts: Sequence[Sequence[Array] | None], groups: NDArray[np.int64], level: AdvantageLevel
) -> NDArray[np.int64]:
    """The numbers of the groups in which neither rewards nor any priced cost vary.

    Args:
        amounts: rewards, then the costs of every constraint, each an array [turns] per episode; None without a price.
        groups: group numbers [episodes].
        level: whole episodes are compared, or (turn, token) turns with the same turn of the others.
    """
    varying: set[int] = set()
    for by_episode in amounts:
        if by_episode is None:
            continue
        if level == "episode":
            values, compared, of = np.array([a.sum() for a in by_episode]), groups, groups
        else:
            values, compared, of = turns_compared(by_episode, groups)
        varying.update(of[estimate("dr_grpo", values, compared) != 0].tolist())
    return np.array([g for g in np.unique(groups).tolist() if g not in varying], np.int64)
