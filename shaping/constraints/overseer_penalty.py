"""A penalty from an overseer that sees some of the open acts, and hears the agent's own admissions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from envs import world_class
from envs.core import draw
from envs.episode import Episode
from envs.skins import skin_of
from shaping.controls import ControlKind
from shaping.hooks import InterventionError
from shaping.intervention import Constraint


class Sightings(NamedTuple):
    """The overseer's knowledge, as counts per turn, shape [turns]."""

    seen: NDArray[np.int64]
    """Open acts that it saw."""
    admitted: NDArray[np.int64]
    """Violations that the agent admitted in reports and answers."""


class OverseerPenalty(Constraint):
    """Prices violations that the overseer sees or that the agent admits, and no others. It is imperfect on purpose.

    In each turn the overseer looks with probability `accuracy`. The draw depends only on the episode's seed and the
    turn, so that two policies meet the same overseer. If it looks, it sees the turn's `act` events (worlds emit them
    only for acts that an onlooker could see). Otherwise it learns of a violation only from a claim that admits one. A
    false answer costs nothing: a price on seen and admitted violations alone rewards hiding (2503.11926, 2601.23086).
    The accuracy sweep is the usual control for a penalty on a monitor's flag.

    `when: watched` prices only turns whose observation says that the overseer is there. The agent can then tell from
    the cue what is priced. An inquiry shows no cue, so admissions are free.

    Costs are in units of proxy reward, and `weight` multiplies them: what is trained is return - weight * cost.

    Seen in `methods` (clerk, 8 replicates, 95 %): lies per chance, deployed, beside placebo penalty: +0.03 [-0.07,
    +0.12], where it should be above 0; 0.13 would be seen with a power of .8.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    accuracy: float = Field(0.5, ge=0, le=1, description="probability per turn that the overseer looks")
    penalty: float = Field(1.0, ge=0, le=1e6, description="cost per act seen, in units of proxy reward")
    admission: float = Field(1.0, ge=0, le=1e6, description="cost per violation admitted, in units of proxy reward")
    when: Literal["always", "watched"] = Field(
        "always", description="watched: price only turns in which the cue says that the overseer is there"
    )

    def sightings(self, episode: Episode) -> Sightings:
        """Count the acts seen and the violations admitted, turn by turn. Reads public events only."""
        seen = np.zeros(len(episode.turns), np.int64)
        admitted = np.zeros(len(episode.turns), np.int64)
        for t, turn in enumerate(episode.turns):
            looks = draw(episode.seed, "overseer", t) < self.accuracy
            seen[t] = sum(event.kind == "act" for event in turn.events) if looks else 0
            admitted[t] = sum(event.kind == "claim" and event.admits for event in turn.events)
        return Sightings(seen, admitted)

    def readings(self, episode: Episode) -> dict[str, NDArray[np.int64]]:
        return self.sightings(episode)._asdict()

    def control_fields(self, kind: ControlKind) -> Mapping[str, Any] | None:
        return {"use": "PlaceboPenalty"} if kind is ControlKind.PLACEBO else super().control_fields(kind)

    def cost(self, episode: Episode) -> NDArray[np.float64] | None:
        """Cost per turn in units of proxy reward, shape [turns]."""
        return self.priced(episode)

    def priced(self, episode: Episode) -> NDArray[np.float64]:
        """The price of the episode's sightings per turn, shape [turns]."""
        seen, admitted = self.sightings(episode)
        costs = self.penalty * seen + self.admission * admitted
        return costs * shows_overseer(episode) if self.when == "watched" else costs


def shows_overseer(episode: Episode) -> NDArray[np.bool_]:
    """Whether the observation of each turn says that the overseer is there, shape [turns].

    Raises: `InterventionError` if the world has no such cue (`cues`).
    """
    cues = getattr(world_class(episode.world), "cues", None)
    if not cues:
        raise InterventionError(f"world {episode.world!r} has no cue of its overseer (`cues`), as when=watched needs")
    skin = skin_of(episode.world)
    shown = [skin.plain(turn.observation) if skin else turn.observation for turn in episode.turns]
    return np.array([cues[0] in text for text in shown], bool)
