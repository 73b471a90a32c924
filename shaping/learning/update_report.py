"""What interventions are told of an update after the policy has learned from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from envs.episode import Episode
from shaping.hooks import Activations, Group, UpdateReport
from shaping.learning.credit.credit import Credited


def update_report(
    update: int,
    episodes: Sequence[Episode],
    credited: Credited,
    metrics: Mapping[str, float],
    activations: Mapping[str, Activations] = {},
) -> UpdateReport:
    """The report of update number `update`, with the truth, which `Arm.after_update` shows to oracles alone."""
    groups = []
    order: list[int] = []
    for number in np.unique(credited.groups):
        members = np.flatnonzero(credited.groups == number)
        shown = tuple(episodes[i] for i in members)
        order += members.tolist()
        groups.append(Group(shown, credited.returns[members], credited.advantages[members]))
    seen = {name: _renumbered(found, order, credited) for name, found in activations.items()}
    return UpdateReport(update, tuple(groups), dict(metrics), seen)


def _renumbered(found: Activations, order: Sequence[int], credited: Credited) -> Activations:
    """The states by the order of the report: the learner numbers the episodes that it was given."""
    given = range(len(order)) if credited.kept is None else np.flatnonzero(credited.kept)
    place = {int(episode): number for number, episode in enumerate(order)}
    return Activations(found.layers, {(place[int(given[n])], turn): mean for (n, turn), mean in found.turns.items()})
