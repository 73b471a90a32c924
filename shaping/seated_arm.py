"""An arm of a world with several seats: interventions of all learned seats, and of single ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

from envs.episode import Episode
from shaping.arm import Arm, compose
from shaping.hooks import Activations, AdapterSpec, Group, InterventionError, Knob, RatioMode, UpdateReport
from shaping.intervention import Intervention
from shaping.seat_records import seat_of

EDITS = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS})
OF_PARAMETERS = EDITS | {Knob.GATES}
"""Knobs of the parameters: seats that share an adapter cannot each have an owner of one."""


@dataclass(frozen=True)
class SeatedArm(Arm):
    """As an `Arm` it has the hooks of the common interventions, and the adapters and the state of all; `of` one seat's.

    `interventions` are the common ones, and then those of each seat.
    """

    seats: Mapping[str, Arm] = field(default_factory=dict)
    """Learned seat -> its interventions, the common ones first."""
    players: Mapping[str, str] = field(default_factory=dict)
    """Learned seat -> the player who sits there; seats with one player share its adapter."""
    own: Mapping[str, tuple[Intervention, ...]] = field(default_factory=dict)
    """Learned seat -> the interventions that it alone has."""

    def of(self, seat: str) -> Arm:
        return self.seats.get(seat, self)

    @property
    def apart(self) -> dict[str, list[Intervention]]:
        """Player -> the interventions that are about it alone."""
        found: dict[str, list[Intervention]] = {}
        for seat, interventions in self.own.items():
            found.setdefault(self.players[seat], []).extend(interventions)
        return found

    @property
    def common(self) -> tuple[Intervention, ...]:
        """The interventions of all learned seats."""
        return self.interventions[: len(self.interventions) - sum(map(len, self.own.values()))]

    def places(self, seat: str) -> list[int]:
        """Where the interventions of a seat stand in `interventions`, in the order in which the seat's arm has them."""
        start = len(self.common)
        found = list(range(start))
        for name, interventions in self.own.items():
            found += range(start, start + len(interventions)) if name == seat else ()
            start += len(interventions)
        return found

    def adapters(self) -> list[AdapterSpec]:
        """Those of a seat's own interventions are its player's alone."""
        specs = Arm(self.name, self.common).adapters()
        for seat, interventions in self.own.items():
            specs += [replace(s, player=self.players[seat]) for s in Arm(self.name, interventions).adapters()]
        return specs

    def concerns(self, intervention: Intervention, episode: Episode) -> bool:
        seat = next((name for name, own in self.own.items() if any(each is intervention for each in own)), None)
        return seat is None or seat == seat_of(episode)

    def after_update(self, report: UpdateReport) -> None:
        """Interventions of a seat are told of its groups alone, and of nothing where no learner sat there."""
        Arm(self.name, self.common).after_update(report)
        for seat, interventions in self.own.items():
            if (told := of_seat(report, seat)).groups:
                Arm(self.name, interventions).after_update(told)


def of_seat(report: UpdateReport, seat: str) -> UpdateReport:
    """What a report says of one seat."""
    groups: list[Group] = []
    places: dict[int, int] = {}
    start = 0
    for group in report.groups:
        if seat_of(group.episodes[0]) == seat:
            places |= {start + i: len(places) + i for i in range(len(group.episodes))}
            groups.append(group)
        start += len(group.episodes)
    activations = {
        name: Activations(found.layers, {(places[n], t): mean for (n, t), mean in found.turns.items() if n in places})
        for name, found in report.activations.items()
    }
    return replace(report, groups=tuple(groups), activations=activations)


def compose_seats(
    name: str,
    common: Sequence[Intervention],
    own: Mapping[str, Sequence[Intervention]],
    players: Mapping[str, str],
    *,
    ratio: RatioMode | None = None,
) -> SeatedArm:
    """Build the arm of a world with several seats.

    Args:
        name: of the arm.
        common: interventions of all learned seats.
        own: seat -> the interventions that it alone has.
        players: learned seat -> who sits there.
        ratio: as of `compose`.
    Raises: `InterventionError` if two interventions of one seat own one knob, or if those of two seats that share an
        adapter cannot be told apart.
    """
    together = compose(name, common, ratio=ratio)
    seats: dict[str, Arm] = {}
    for seat in players:
        try:
            seats[seat] = compose(name, [*common, *own.get(seat, ())], ratio=ratio)
        except InterventionError as error:
            raise InterventionError(f"seat {seat!r}: {error}") from None
    for seat, interventions in own.items():
        _check_own(name, seat, interventions, [s for s, p in players.items() if p == players[seat] and s != seat])
    for one, other in combinations(own, 2):
        if players[one] == players[other]:
            _check_pair(name, (one, own[one]), (other, own[other]))
    every = (*common, *(i for interventions in own.values() for i in interventions))
    mine = {seat: tuple(interventions) for seat, interventions in own.items()}
    return SeatedArm(name, every, together.owner, ratio, seats, dict(players), mine)


def _check_own(arm: str, seat: str, interventions: Sequence[Intervention], sharing: Sequence[str]) -> None:
    """Refuse what an engine or a shared adapter cannot do for one seat alone."""
    for intervention in interventions:
        kind = type(intervention)
        if kind.owns & EDITS:
            raise InterventionError(
                f"arm {arm!r}: {kind.__name__} of seat {seat!r} edits activations, which is done for all learned seats "
                f"alike: put it under arms.{arm}.interventions"
            )
        alone = ("adapters", "makes adapters"), ("auxiliary_loss", "has an auxiliary loss")
        for hook, what in alone:
            if sharing and getattr(kind, hook) is not getattr(Intervention, hook):
                raise InterventionError(
                    f"arm {arm!r}: {kind.__name__} of seat {seat!r} {what}, and {sharing[0]!r} trains the same "
                    f"adapter: give the seat an adapter of its own (seats.players.{seat}.adapter), or put the "
                    f"intervention under arms.{arm}.interventions"
                )


def _check_pair(arm: str, one: tuple[str, Sequence[Intervention]], other: tuple[str, Sequence[Intervention]]) -> None:
    for first in one[1]:
        for second in other[1]:
            if both := sorted(type(first).owns & type(second).owns & OF_PARAMETERS):
                raise InterventionError(
                    f"arm {arm!r}: seats {one[0]!r} and {other[0]!r} share an adapter, and {type(first).__name__} of "
                    f"the one and {type(second).__name__} of the other both own the knob {both[0].value!r}: give the "
                    f"seats adapters of their own (seats.players.{other[0]}.adapter), or put one of the two under "
                    f"arms.{arm}.interventions"
                )
