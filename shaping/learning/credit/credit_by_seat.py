"""Credit in worlds with several seats: each seat's episodes under its own interventions, for its own adapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.arm import Arm
from shaping.learning.credit.credit import Credited, assign_credit
from shaping.learning.credit.credit_parts import CreditPart, names_of
from shaping.learning.samples.rehearsals import rehearsed
from shaping.learning.samples.sample import Array, Sample
from shaping.sampling.text.render import Renderer
from shaping.seat_records import seat_of
from shaping.seated_arm import SeatedArm


@dataclass(frozen=True, slots=True)
class _Seat:
    """The credit of one seat."""

    name: str
    members: NDArray[np.int64]
    """Numbers of its episodes in the update."""
    credited: Credited

    @property
    def inside(self) -> NDArray[np.int64]:
        """Numbers of those that no constraint has screened out."""
        return self.members if self.credited.kept is None else self.members[self.credited.kept]


def credit_seats(
    episodes: Sequence[Episode], rewards: Sequence[Array], arm: Arm, renderer: Renderer, **settings: Any
) -> Credited:
    """As `assign_credit`, seat by seat; without seats it is that.

    A group is one seat over the members of a group of games, so returns of different roles are never compared. Samples
    name the player that they train. What an intervention of all seats rehearses, it is asked for once.
    """
    if not isinstance(arm, SeatedArm):
        return assign_credit(episodes, rewards, arm, renderer, **settings)
    names = [seat_of(episode) for episode in episodes]
    seats: list[_Seat] = []
    for name in dict.fromkeys(names):
        members = np.array([i for i, own in enumerate(names) if own == name])
        of_seat, paid = [episodes[i] for i in members], [rewards[i] for i in members]
        credited = assign_credit(of_seat, paid, arm.of(name), renderer, rehearse=False, **settings)
        seats.append(_Seat(name, members, credited))
    joined = _joined(seats, arm, len(episodes))
    return replace(joined, samples=[*joined.samples, *_rehearsed(joined, seats, arm, renderer)])


def _joined(seats: Sequence[_Seat], arm: SeatedArm, count: int) -> Credited:
    """The credit of all seats, in the order of the episodes."""

    def whole(name: str) -> NDArray[Any]:
        arrays = [(seat.members, getattr(seat.credited, name)) for seat in seats]
        found = np.zeros(count, arrays[0][1].dtype)
        for members, values in arrays:
            found[members] = values
        return found

    def share(name: str) -> float | None:
        """A share of groups, over all seats."""
        shares = [(getattr(seat.credited, name), len(np.unique(seat.credited.groups))) for seat in seats]
        known = [(value, n) for value, n in shares if value is not None]
        return sum(value * n for value, n in known) / sum(n for _, n in known) if known else None

    inside = np.zeros(count, bool)
    inside[np.concatenate([seat.inside for seat in seats])] = True
    of_episode = {int(i): each for seat in seats for i, each in zip(seat.members, seat.credited.episodes, strict=True)}
    return Credited(
        samples=[sample for seat in seats for sample in _samples(seat, arm, np.cumsum(inside) - 1)],
        returns=whole("returns"),
        costs=whole("costs"),
        advantages=whole("advantages"),
        credit=whole("credit"),
        groups=whole("groups"),
        floored=share("floored"),
        parts=_parts(seats, arm, count),
        uninformative=share("uninformative"),
        kept=None if all(seat.credited.kept is None for seat in seats) else inside,
        episodes=tuple(of_episode[i] for i in range(count)),
    )


def _samples(seat: _Seat, arm: SeatedArm, number: NDArray[np.int64]) -> list[Sample]:
    """The samples of a seat, for its player; `number`: those of all episodes among the ones that are learned from."""
    found = []
    for sample in seat.credited.samples:
        own = sample.origin
        origin = None if own is None else replace(own, episode=int(number[seat.inside[own.episode]]))
        found.append(replace(sample, player=arm.players[seat.name], origin=origin))
    return found


def _parts(seats: Sequence[_Seat], arm: SeatedArm, count: int) -> tuple[CreditPart, ...]:
    """What each intervention adds, over the seats that it is about."""
    found = [CreditPart(name, np.zeros(count), 0.0, 0.0) for name in names_of(arm.interventions)]
    for seat in seats:
        for place, own in zip(arm.places(seat.name), seat.credited.parts, strict=False):  # none if all are screened out
            known, here = found[place], own.among(seat.members, count)
            added, size, whole = known.added + here.added, known.size + own.size, known.whole + own.whole
            found[place] = replace(known, added=added, size=size, whole=whole)
    return tuple(found)


def _rehearsed(joined: Credited, seats: Sequence[_Seat], arm: SeatedArm, renderer: Renderer) -> list[Sample]:
    """Samples of what is rehearsed with the episodes that stay: of interventions of all seats, then of single ones."""
    inside = [i for i in range(len(joined.episodes)) if joined.kept is None or joined.kept[i]]
    found = rehearsed(arm.common, [joined.episodes[i] for i in inside], renderer)
    for seat in seats:
        own = rehearsed(arm.own.get(seat.name, ()), [joined.episodes[i] for i in seat.inside], renderer)
        found += [replace(sample, player=arm.players[seat.name]) for sample in own]
    return [replace(sample, player=sample.player or next(iter(arm.players.values()))) for sample in found]
