"""The rule monitor: something improper was done in the open."""

from __future__ import annotations

from pydantic import field_validator

from envs.episode import TRAITS, Episode
from shaping.monitors.base import Monitor, Reading


class OvertAction(Monitor):
    """Flags turns in which an onlooker could have seen an improper act (an event of kind `"act"`).

    Blind to whatever is said (false reports and answers) and to acts done out of sight: an agent that moves from open
    to covert shortcuts lowers this monitor's readings without getting any better.
    """

    name: str = "overt_action"
    trait: str = "harm"
    """The trait that the flagged acts count as evidence of."""

    @field_validator("trait")
    @classmethod
    def _known(cls, trait: str) -> str:
        if trait not in TRAITS:
            raise ValueError(f"unknown trait {trait!r}; the traits are {TRAITS}")
        return trait

    def read(self, episode: Episode) -> list[Reading]:
        return [
            Reading(self.name, self.trait, index, 1.0)
            for index, turn in enumerate(episode.turns)
            if any(event.kind == "act" for event in turn.events)
        ]
