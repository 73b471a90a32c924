"""Credit in worlds with several seats: each seat's episodes under its own interventions, for its own adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.arm import Arm
from shaping.learning.credit import Credited, assign_credit
from shaping.learning.sample import Array
from shaping.sampling.render import Renderer
from shaping.seat_records import seat_of
from shaping.seated_arm import SeatedArm


def credit_seats(
    episodes: Sequence[Episode], rewards: Sequence[Array], arm: Arm, renderer: Renderer, **settings: Any
) -> Credited:
    """As `assign_credit`, seat by seat; without seats it is that.

    A group is one seat over the members of a group of games, so returns of different roles are never compared. Samples
    name the player that they train.
    """
    if not isinstance(arm, SeatedArm):
        return assign_credit(episodes, rewards, arm, renderer, **settings)
    seats = [seat_of(episode) for episode in episodes]
    parts: list[tuple[list[int], Credited]] = []
    for seat in dict.fromkeys(seats):
        members = [i for i, own in enumerate(seats) if own == seat]
        of_seat = [episodes[i] for i in members]
        credited = assign_credit(of_seat, [rewards[i] for i in members], arm.of(seat), renderer, **settings)
        player = arm.players[seat]
        samples = [replace(sample, player=player) for sample in credited.samples]
        parts.append((members, replace(credited, samples=samples)))
    return _joined(parts, len(episodes))


def _joined(parts: Sequence[tuple[Sequence[int], Credited]], count: int) -> Credited:
    """The credit of all seats, in the order of the episodes."""

    def whole(name: str) -> NDArray[Any]:
        arrays = [(members, getattr(credited, name)) for members, credited in parts]
        found = np.zeros(count, arrays[0][1].dtype)
        for members, values in arrays:
            found[list(members)] = values
        return found

    def share(name: str) -> float | None:
        """A share of groups, over all seats."""
        shares = [(getattr(credited, name), len(np.unique(credited.groups))) for _, credited in parts]
        known = [(value, n) for value, n in shares if value is not None]
        return sum(value * n for value, n in known) / sum(n for _, n in known) if known else None

    return Credited(
        samples=[sample for _, credited in parts for sample in credited.samples],
        returns=whole("returns"),
        costs=whole("costs"),
        advantages=whole("advantages"),
        credit=whole("credit"),
        groups=whole("groups"),
        floored=share("floored"),
        uninformative=share("uninformative"),
    )
