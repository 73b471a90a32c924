"""What interventions are told of an update after the policy has learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from envs.episode import Episode
from shaping.hooks import Group, UpdateReport
from shaping.learning.credit import Credited


def update_report(
    update: int, episodes: Sequence[Episode], credited: Credited, metrics: Mapping[str, float]
) -> UpdateReport:
    """The report of update number `update`, with the truth, which `Arm.after_update` shows to oracles alone."""
    groups = []
    for number in np.unique(credited.groups):
        members = np.flatnonzero(credited.groups == number)
        shown = tuple(episodes[i] for i in members)
        groups.append(Group(shown, credited.returns[members], credited.advantages[members]))
    return UpdateReport(update, tuple(groups), dict(metrics))
