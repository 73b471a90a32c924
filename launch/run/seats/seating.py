"""Who sits where: the seats of every group of games, drawn by the run's seed, and the games as requests.

All members of a group are games of one world seed with the same policies on the same seats, so that the returns of a
seat differ by what was sampled alone. An episode's group is that of its seat: the same seat over the members.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from envs.core import TextEnv
from envs.episode import Context, Contexts
from envs.seated import SeatedWorld
from launch.config.arms.seats import PAST, Seat
from launch.config.plugins import build_world
from launch.config.study import RunConfig
from launch.run.episodes import GroupDraw, GroupRequest, draw, place
from launch.run.models.adapters import adapter_name, snapshots_of
from launch.run.seeds import derive
from shaping.arm import Arm
from shaping.learning.snapshots import slot_name
from shaping.sampling.play import EpisodeRequest
from shaping.sampling.table import TableRequest
from shaping.seat_records import GAME, LEARNER, PLAYER, PLAYERS, SEAT, UNSHAPED

Drawn = GroupDraw | Mapping[str, GroupDraw]
"""What an arm has drawn for a group: one draw, or one for every learned seat."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """Who sits on a seat in one game."""

    kind: Literal["learner", "policy", "scripted"]
    """A learner, whose episode is learned from; another policy; or a scripted policy of the world."""
    name: str
    """The engine's player, or the scripted policy."""
    shown: str
    """What records call it."""


Seating = Mapping[str, Occupant]


def learner_of(player: str) -> Occupant:
    """The policy that is trained."""
    return Occupant("learner", player, f"{LEARNER} {player}".strip())


def unshaped() -> Occupant:
    """The policy that training started from."""
    return Occupant("policy", UNSHAPED, UNSHAPED)


def seating(run: RunConfig, request: GroupRequest) -> Seating:
    """Who sits where in all games of a group: a pure function of run and request. A learner sits somewhere."""
    seats = run.seats
    assert seats is not None
    rng = np.random.default_rng(derive(run.seed, "seating", request.update, request.group))
    draws = {name: (rng.random(), rng.random(), rng.random()) for name in seats.players}
    learning = {name for name, seat in seats.players.items() if draws[name][0] < seat.learns}
    if not learning:
        learning = {max(seats.learned, key=lambda name: seats.players[name].learns - draws[name][0])}
    return {
        name: learner_of(seat.adapter) if name in learning else _opponent(run, seat, request.update, *draws[name][1:])
        for name, seat in seats.players.items()
    }


def _opponent(run: RunConfig, seat: Seat, update: int, which: float, past: float) -> Occupant:
    """The opponent that two uniform numbers choose."""
    assert run.seats is not None
    kind = chosen(seat.opponents, which)
    snapshots = snapshots_of(run)
    if kind == UNSHAPED:
        return unshaped()
    if kind != PAST or snapshots is None:
        return Occupant("scripted", kind, kind)
    own = [seat.adapter] if seat.learns else list(dict.fromkeys(run.seats.learned.values()))
    there = [(player, n) for player in own for n in snapshots.numbers(update, run.rollout.max_staleness)]
    player, number = there[int(past * len(there))]
    name = slot_name(adapter_name(player), snapshots.slot(number))
    return Occupant("policy", name, f"{PAST} {player} {number}".replace("  ", " "))


def chosen(weights: Mapping[str, float], uniform: float) -> str:
    """The name at this place of the distribution."""
    shares = np.cumsum(list(weights.values())) / sum(weights.values())
    return list(weights)[min(int(np.searchsorted(shares, uniform, side="right")), len(weights) - 1)]


def draw_group(run: RunConfig, arm: Arm, request: GroupRequest) -> Drawn:
    """The one draw that all members of a group share, for every learned seat its own."""
    if run.seats is None:
        return draw(run, arm, request)
    found: dict[str, GroupDraw] = {}
    for index, seat in enumerate(run.seats.learned):
        drawn = draw(run, arm.of(seat), request, index)
        found[seat] = replace(drawn, contexts=with_role(run, seat, drawn.contexts))
    return found


def with_role(run: RunConfig, seat: str, contexts: Contexts) -> Contexts:
    """The contexts with what the seat's role says, which stands first."""
    role = run.seats.players[seat].context if run.seats and seat in run.seats.players else ""
    if not role:
        return contexts
    texts = [
        Context("\n".join(filter(None, (role, context.system))), context.name if context.system else f"role {seat}")
        for context in (contexts.sampling, contexts.training)
    ]
    return Contexts(*texts)


def on_a_seat(run: RunConfig, request: EpisodeRequest, number: int) -> EpisodeRequest:
    """An episode of an evaluation on one of the learned seats, which take turns, by the policy that learned there.

    In a world with one seat the policies take turns all the same.
    """
    if run.seats is None:
        return request
    seat = seat_in_turn(run, number)

    def make() -> TextEnv:
        world = request.make()
        if isinstance(world, SeatedWorld) and seat in world.seats:
            world.seat = seat
        return world

    contexts = with_role(run, seat, request.contexts) if request.world in run.train.worlds else request.contexts
    return replace(request, make=make, contexts=contexts, seat=seat, player=run.seats.learned[seat])


def seat_in_turn(run: RunConfig, number: int) -> str:
    """The learned seat of episode `number` of an evaluation; empty in a study without seats."""
    learned = list(run.seats.learned) if run.seats else [""]
    return learned[number % len(learned)]


def games(run: RunConfig, request: GroupRequest, drawn: Mapping[str, GroupDraw]) -> list[TableRequest]:
    """The games of one group."""
    world, options, seed = place(run, request)
    who = seating(run, request)
    return [
        game(
            run,
            (world, options, "train.worlds"),
            seed,
            who,
            drawn,
            number=f"{request.update}.{request.group}.{member}",
            sampling=("sample", request.update, request.group, member),
            member=member,
        )
        for member in range(run.train.group_size)
    ]


def game(
    run: RunConfig,
    world: tuple[str, Mapping[str, object], str],
    seed: int,
    who: Seating,
    drawn: Mapping[str, GroupDraw],
    *,
    number: str,
    sampling: tuple[int | str, ...],
    member: int = 0,
) -> TableRequest:
    """One game.

    Args:
        run: the run.
        world: (its name, its options, the dotted key of the config that names it).
        seed: the world's seed.
        who: who sits where.
        drawn: what was drawn for the learned seats; all others have the context of their role.
        number: what records call the game.
        sampling: key of the completions' seeds.
        member: its number in its group.
    """
    name, options, where = world
    own = {seat: drawn[seat] for seat, occupant in who.items() if occupant.kind == "learner" and seat in drawn}
    recorded = {**options, GAME: number, PLAYERS: {seat: occupant.shown for seat, occupant in who.items()}}
    seats = [
        EpisodeRequest(
            make=lambda: build_world(name, options, where),
            seed=seed,
            group=index,
            contexts=own[seat].contexts if seat in own else with_role(run, seat, Contexts()),
            prefill=own[seat].prefills[member] if seat in own and own[seat].prefills else None,
            sampling_seed=derive(run.seed, *sampling, seat),
            options={**recorded, SEAT: seat, PLAYER: occupant.shown},
            world=name,
            seat=seat,
            player=occupant.name,
        )
        for index, (seat, occupant) in enumerate(who.items())
        if occupant.kind != "scripted"
    ]
    scripted = {seat: occupant.name for seat, occupant in who.items() if occupant.kind == "scripted"}
    return TableRequest(tuple(seats), scripted)
