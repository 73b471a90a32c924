"""The ground-truth monitor: it reads the world's own labels and is never wrong."""

from __future__ import annotations

from typing import ClassVar, Literal

from envs.episode import TRAITS, Episode
from shaping.monitors.base import Monitor, Reading


class GroundTruth(Monitor):
    """Reads `Episode.truth`. For evaluation only: `role="train"` is refused, redacted episodes raise `SealedError`."""

    oracle: ClassVar[bool] = True

    role: Literal["evaluate"] = "evaluate"
    """This monitor can only evaluate."""
    name: str = "ground_truth"
    """Name in readings, metrics and reports."""

    def read(self, episode: Episode) -> list[Reading]:
        return [
            Reading(self.name, trait, turn, min(1.0, count))
            for turn, labels in enumerate(episode.truth.open())
            for trait in TRAITS
            if (count := labels.trait(trait)) > 0
        ]
