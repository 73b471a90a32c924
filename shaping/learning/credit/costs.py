"""What an arm's constraints charge for finished episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from envs.calls import call
from envs.episode import Episode, by_group
from envs.per_turn import per_turn
from shaping.hooks import InterventionError
from shaping.intervention import Constraint
from shaping.learning.samples.sample import Array


def costs_of(constraint: Constraint, episodes: Sequence[Episode]) -> list[Array] | None:
    """An array [turns] per episode of one or several whole groups; None if the constraint sets no price.

    Raises: `InterventionError` for answers of another shape, numbers that are not finite, and None for some episodes
    only.
    """
    shown = [episode if constraint.reads_truth else episode.redacted() for episode in episodes]
    hook = "cost" if type(constraint).cost_group is Constraint.cost_group else "cost_group"
    returned = (
        [call(InterventionError, constraint, "cost", episode) for episode in shown]
        if hook == "cost"
        else _by_group(constraint, shown)
    )
    if all(cost is None for cost in returned):
        return None
    return [
        _checked(cost, episode, f"{type(constraint).__name__}.{hook}")
        for cost, episode in zip(returned, episodes, strict=True)
    ]


def _by_group(constraint: Constraint, shown: Sequence[Episode]) -> list[Any]:
    """The answers of a constraint that prices whole groups."""
    found: list[Any] = [None] * len(shown)
    for members in by_group(shown).values():
        answer = call(InterventionError, constraint, "cost_group", tuple(shown[i] for i in members))
        if answer is None:
            continue
        if not isinstance(answer, (list, tuple)) or len(answer) != len(members):
            given = f"{len(answer)} arrays" if isinstance(answer, (list, tuple)) else type(answer).__name__
            raise InterventionError(
                f"{type(constraint).__name__}.cost_group gave {given} for a group of {len(members)} episodes; it must "
                "give a list of one array per episode, or None"
            )
        for i, cost in zip(members, answer, strict=True):
            found[i] = cost
    return found


def _checked(cost: Any, episode: Episode, who: str) -> Array:
    try:
        return np.asarray(per_turn(cost, len(episode.turns), "costs"), np.float64)
    except ValueError as error:
        raise InterventionError(
            f"{who} must give {len(episode.turns)} finite numbers, one per turn, for "
            f"{episode.world} (seed {episode.seed}): {error}"
        ) from None
