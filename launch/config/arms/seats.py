"""Who sits on the seats of a world with several: learners, past and unshaped policies, scripted policies."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator, model_validator

from launch.config.fields import Strict
from launch.errors import nearest
from shaping.seat_records import UNSHAPED

PAST = "past"
"""The opponent that is a past policy of the run."""
RESERVED = ("kept", "learner", PAST, UNSHAPED)
"""What adapters of seats cannot be called: adapters and policies have these names already."""
SHARED = ""
"""The player whose adapter seats share."""

Adapter = Annotated[str, Field(pattern=r"^([A-Za-z][A-Za-z0-9]*)?$", max_length=40)]
Weight = Annotated[float, Field(gt=0, le=1e6)]


class Seat(Strict):
    learns: float = Field(
        1.0, ge=0, le=1, description="share of the groups in which a learner sits here and learns from the seat"
    )
    adapter: Adapter = Field(
        SHARED, description="seats of one adapter are one policy; empty: the one that all such seats share"
    )
    opponents: dict[str, Weight] = Field(
        {}, description="who sits here otherwise, and how often: unshaped, past, or scripted policies of the world"
    )
    context: str = Field("", max_length=20_000, description="the role's system prompt, whichever policy sits here")

    @model_validator(mode="after")
    def _somebody(self) -> Seat:
        if self.learns < 1 and not self.opponents:
            raise ValueError(
                f"learns is {self.learns:g}, and there are no opponents: nobody would sit here in the other groups. "
                "Name some under opponents, or set learns to 1"
            )
        if self.learns == 1 and self.opponents:
            raise ValueError("learns is 1, so that the opponents would never sit here: lower it, or leave them out")
        if self.adapter in RESERVED:
            raise ValueError(f"adapter {self.adapter!r} is the name of another policy: choose another one")
        if self.learns == 0 and self.adapter:
            raise ValueError(f"adapter {self.adapter!r} would never be trained here: learns is 0")
        return self

    @property
    def scripted(self) -> list[str]:
        """The scripted policies among the opponents."""
        return [name for name in self.opponents if name not in (UNSHAPED, PAST)]


class SnapshotConfig(Strict):
    every: int = Field(0, ge=0, le=10_000_000, description="updates between two past policies that are kept; 0: none")
    keep: int = Field(4, ge=1, le=1000, description="past policies that are kept; older ones are dropped")


class SeatsConfig(Strict):
    players: dict[str, Seat] = Field(min_length=2, description="seat of the world -> who sits there")
    snapshots: SnapshotConfig = Field(SnapshotConfig(), description="past policies of the run, as opponents")
    games: int = Field(
        16,
        ge=0,
        le=100_000,
        description="games after training in each world, half of the learned seats unshaped, for Elo; 0: none",
    )

    @field_validator("players")
    @classmethod
    def _a_learner(cls, players: dict[str, Seat]) -> dict[str, Seat]:
        if not any(seat.learns for seat in players.values()):
            raise ValueError("learns is 0 on every seat, so that nothing would be learned: raise it on one of them")
        return players

    @model_validator(mode="after")
    def _past_policies(self) -> SeatsConfig:
        for name, seat in self.players.items():
            if PAST in seat.opponents and not self.snapshots.every:
                raise ValueError(
                    f"players.{name}.opponents: past policies are to sit here, and none is kept: set snapshots.every "
                    "to the number of updates between two of them"
                )
        return self

    @property
    def learned(self) -> dict[str, str]:
        """Learned seat -> its player."""
        return {name: seat.adapter for name, seat in self.players.items() if seat.learns}

    @property
    def own_adapters(self) -> bool:
        """Do seats have adapters of their own?"""
        return any(self.learned.values())

    @property
    def meets(self) -> set[str]:
        """The kinds of policies that are opponents: unshaped, past."""
        return {name for seat in self.players.values() for name in seat.opponents} & {UNSHAPED, PAST}

    def check_seat(self, seat: str, where: str) -> None:
        """Raise `ValueError` unless a learner sits there."""
        if seat not in self.players:
            raise ValueError(f"{where}: there is no seat {seat!r}{nearest(seat, self.players)}")
        if not self.players[seat].learns:
            raise ValueError(f"{where}: no learner sits on {seat!r}, so that the interventions would have no effect")
