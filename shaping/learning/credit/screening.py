"""Which episodes an arm's constraints leave out of their group's statistics and of the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from envs.calls import call
from envs.episode import Episode
from shaping.hooks import Group, InterventionError
from shaping.intervention import Constraint
from shaping.learning.samples.sample import Array


def screened(
    constraints: Sequence[Constraint], episodes: Sequence[Episode], rewards: Sequence[Array]
) -> NDArray[np.bool_] | None:
    """True for the episodes that stay, shape [episodes]; None if no constraint screens.

    An episode stays if all constraints keep it. Raises: `InterventionError` for answers that are not one truth value
    per member of the group.
    """
    asked = [each for each in constraints if screens(each)]
    if not asked:
        return None
    groups = np.array([episode.group for episode in episodes], np.int64)
    returns = np.array([each.sum() for each in rewards], np.float64)
    keep = np.ones(len(episodes), bool)
    for constraint in asked:
        shown = [episode if constraint.reads_truth else episode.redacted() for episode in episodes]
        for number in np.unique(groups):
            members = np.flatnonzero(groups == number)
            group = Group(tuple(shown[i] for i in members), returns[members], np.zeros(len(members)))
            keep[members] &= _answer(constraint, group)
    return keep


def screens(constraint: Constraint) -> bool:
    """Does it define `screen`?"""
    return type(constraint).screen is not Constraint.screen


def _answer(constraint: Constraint, group: Group) -> NDArray[np.bool_]:
    answer = call(InterventionError, constraint, "screen", group)
    if answer is None:
        return np.ones(len(group.episodes), bool)
    kept = np.asarray(answer)
    if kept.shape != (len(group.episodes),) or kept.dtype != bool:
        raise InterventionError(
            f"{type(constraint).__name__}.screen() returned {answer!r:.80}; it must return True or False for each "
            f"of the {len(group.episodes)} episodes of the group, or None"
        )
    return kept
