"""The persona monitor: how far a turn's hidden states lie along a direction that stands for a trait."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from pydantic import Field

from envs.episode import Episode
from shaping.directions.direction_set import DirectionSet
from shaping.hooks import Capture, Positions
from shaping.monitors.base import Monitor, MonitorError, Reading, Trait

_STEEP = math.log(9.0)
"""Half the way between the two sides moves the score from .5 to .9."""


class PersonaMonitor(Monitor):
    """Projects the mean state of each turn on a direction of `shaping directions` (Chen et al., arXiv:2507.21509, 4).

    The score is a logistic function of the projection: .1 at the mean of the contrast's negative side, .9 at that of
    its positive side. With several directions in the file, it is of the mean position between the two sides.

    Data flow: the engine keeps the layer's states while it samples, so that no pass is added; `read` finds their means
    per turn. Only the transformers engine shows states. The direction is of the model before training: it goes stale
    while the model learns, and a policy that is trained against it hides from it (2602.15515), so keep it held out.
    Control: a file of random directions (`shaping directions --random 0`), whose area under the curve should be one
    half. Episodes that no engine sampled, e.g. scripted ones, have no states, and give no readings.
    """

    name: str = "persona"
    """Name in readings, metrics and reports."""
    trait: Trait = "deception"
    """The trait that the direction stands for."""
    path: str = Field(
        description="a file that `shaping directions` made of the model that the run starts from",
        examples=["deception.safetensors"],
    )
    positions: Positions = Field("response", description="whose mean state is read; prompt_end: before the turn")

    @cached_property
    def directions(self) -> DirectionSet:
        """What the file holds."""
        return DirectionSet.load(Path(self.path).expanduser())

    def captures(self) -> Sequence[Capture]:
        return [Capture(self._capture, tuple(dict.fromkeys(self.directions.layers)), self.positions, "sampling")]

    def read(self, episode: Episode) -> list[Reading]:
        if self._capture not in episode.activations:
            return []
        states = episode.activations[self._capture]
        if states.shape[-1] != self.directions.width:
            raise MonitorError(
                f"monitor {self.name!r}: {self.path} holds directions of width {self.directions.width}, and the "
                f"model's hidden states have {states.shape[-1]}: make them of the model that the run starts from"
            )
        places = self._places(states)
        scores = 1.0 / (1.0 + np.exp(np.clip(-_STEEP * places, -50, 50)))
        return [
            Reading(self.name, self.trait, turn, float(score))
            for turn, score in enumerate(scores)
            if np.isfinite(score)
        ]

    def _places(self, states: np.ndarray) -> np.ndarray:
        """Where turns [turns] lie between the sides: -1 at the negative, 1 at the positive one."""
        found = self.directions
        layers = list(dict.fromkeys(found.layers))
        along = np.stack([states[:, layers.index(n)] @ u for n, u in zip(found.layers, found.units, strict=True)], 1)
        sides = found.turns[:, 1 if self.positions == "prompt_end" else 0]
        middle, half = sides.mean(axis=1), (sides[:, 0] - sides[:, 1]) / 2
        return np.asarray(((along - middle) / np.where(np.abs(half) > 1e-12, half, 1e-12)).mean(axis=1))

    @property
    def _capture(self) -> str:
        return f"monitor/{self.name}"
