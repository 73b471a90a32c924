"""Games after training: the deployed policy on some of the learned seats, the unshaped one on the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from launch.config.arms.seats import PAST, SeatsConfig
from launch.config.study import RunConfig
from launch.run.seats.seating import Occupant, Seating, chosen, game, learner_of, unshaped
from launch.run.seeds import derive
from shaping.sampling.table import TableRequest
from shaping.seat_records import UNSHAPED

USE = "games"


@dataclass(frozen=True, slots=True)
class EvalGame:
    """One game of an evaluation. With the run's config it determines seats, seeds and contexts."""

    world: str
    """What the config calls the world."""
    options: Mapping[str, Any]
    """Those of the config."""
    number: int
    """Games 2m and 2m + 1 have the same seeds, and the two policies have changed seats."""

    def request(self, run: RunConfig) -> TableRequest:
        """The game, ready to be played."""
        pair = self.number // 2
        return game(
            run,
            (self.world, self.options, "train.worlds"),
            derive(run.seed, USE, self.world, pair),
            seating_of(run, pair, mirrored=bool(self.number % 2)),
            {},
            number=f"{USE} {self.world} {self.number}",
            sampling=(USE, "sample", self.world, self.number),
        )


def eval_games(run: RunConfig) -> tuple[EvalGame, ...]:
    """All games of a run's evaluation, in the worlds that it trains in."""
    if run.seats is None:
        return ()
    return tuple(
        EvalGame(world, options, number)
        for world, options in run.train.worlds.items()
        for number in range(run.seats.games)
    )


def seating_of(run: RunConfig, pair: int, *, mirrored: bool) -> Seating:
    """Who sits where. Half of the learned seats are the unshaped policy's, in the mirrored game the other half.

    With a single learned seat the trained policy has it in both, and the unshaped one sits where policies are
    opponents. Where the base weights are trained there is no unshaped policy any more.
    """
    seats = run.seats
    assert seats is not None
    rng = np.random.default_rng(derive(run.seed, USE, pair))
    learned = list(seats.learned)
    order = [learned[i] for i in rng.permutation(len(learned))]
    half = set(order[: len(order) // 2])
    theirs = (half if mirrored else set(order) - half) if len(learned) > 1 and run.learner.lora else set()
    uniform = {name: rng.random() for name in seats.players}
    return {name: _occupant(seats, name, theirs, uniform[name]) for name in seats.players}


def _occupant(seats: SeatsConfig, name: str, theirs: set[str], uniform: float) -> Occupant:
    seat = seats.players[name]
    if seat.learns:
        return unshaped() if name in theirs else learner_of(seat.adapter)
    kind = chosen(seat.opponents, uniform)
    return unshaped() if kind in (UNSHAPED, PAST) else Occupant("scripted", kind, kind)
