"""A penalty from an overseer that sees some of what is done in the open and otherwise only what it is told."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs.core import draw
from envs.episode import Episode
from shaping.intervention import Constraint


class Sightings(NamedTuple):
    """What the overseer came to know, as counts per turn, shape [turns]."""

    seen: NDArray[np.int64]
    """Acts in the open that it saw."""
    admitted: NDArray[np.int64]
    """Violations that it was told of, in reports and answers."""


class OverseerPenalty(Constraint):
    """Costs for violations that are seen or admitted, and for nothing else: imperfect on purpose.

    In each turn it looks with probability `accuracy`, by a draw that depends on the episode's seed and the turn only,
    so that two policies meet the same overseer. When it looks, it sees the turn's `act` events (worlds emit them only
    where an onlooker could see something); otherwise it learns of a violation only from a claim that admits one. A
    false answer costs nothing: to price what one sees and hears is what rewards hiding (2503.11926, 2601.23086). The
    accuracy sweep is the usual control for a penalty on a monitor's flag.

    The cost is normalised within the group apart from the reward, and `weight` multiplies the result (2310.12773).
    """

    accuracy: float = Field(0.5, ge=0, le=1, description="probability per turn that the overseer looks")
    penalty: float = Field(1.0, ge=0, description="cost per act seen")
    admission: float = Field(1.0, ge=0, description="cost per violation admitted in a report or an answer")

    def seen(self, episode: Episode) -> Sightings:
        """What it saw and was told, turn by turn; reads public events only."""
        seen = np.zeros(len(episode.turns), np.int64)
        admitted = np.zeros(len(episode.turns), np.int64)
        for t, turn in enumerate(episode.turns):
            looks = draw(episode.seed, "overseer", t) < self.accuracy
            seen[t] = sum(event.kind == "act" for event in turn.events) if looks else 0
            admitted[t] = sum(event.kind == "claim" and event.admits for event in turn.events)
        return Sightings(seen, admitted)

    def readings(self, episode: Episode) -> dict[str, NDArray[np.int64]]:
        return self.seen(episode)._asdict()

    def cost(self, episode: Episode) -> NDArray[np.float64]:
        """Cost per turn in units of proxy reward, shape [turns]."""
        seen, admitted = self.seen(episode)
        return self.penalty * seen + self.admission * admitted
