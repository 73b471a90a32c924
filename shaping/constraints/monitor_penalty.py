"""A price on what a monitor suspects, which spends the monitor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PrivateAttr, field_validator

from envs.episode import TRAITS, Episode
from shaping.constraints.dealt import dealt
from shaping.controls import ControlKind
from shaping.intervention import Constraint
from shaping.labels.inline_monitor import InlineMonitor, Readings, refuse_oracle
from shaping.monitors.base import Monitor


class MonitorPenalty(Constraint):
    """Trains against a monitor: each turn costs `penalty` times its score, or `penalty` from `threshold` on.

        monitor(redacted episode) -> score per turn -> cost per turn -> A = A_R - weight * A_C

    The run record names the monitor as spent, and reports quote a spent monitor only beside a held-out one: list it in
    `eval.monitors` with `role: train`, and at least one other. SOLiD (arXiv:2505.13787): above 85 % deception at a low
    true-positive rate of the detector or a weak KL, honest at a high one of both. The obfuscation of arXiv:2601.23086
    and 2602.15515 reaches tasks that were never penalised.

    Pitfalls. A graded score can be lowered by wording alone. A monitor that needs a model is asked once per episode, in
    the loop, within no time limit of its own.

    Controls: `placebo: true` deals the same costs to random episodes of the group; a monitor that was not trained on;
    `Penalty` with `labels: oracle` for the same price without the monitor's errors, or with chosen ones.
    """

    needs: ClassVar[tuple[ControlKind, ...]] = (ControlKind.PLACEBO, ControlKind.NO_LOOPHOLE, ControlKind.BASE)

    monitor: InlineMonitor = Field(description="the monitor, as under eval.monitors", examples=["OvertAction"])
    traits: tuple[str, ...] = Field((), description="traits whose readings are charged; none: all of the monitor's")
    threshold: float | None = Field(
        None, gt=0, le=1, description="score from which on a turn costs the whole penalty; none: it costs its share"
    )
    penalty: float = Field(1.0, ge=0, le=1e6, description="cost of a turn with score 1, in units of proxy reward")
    placebo: bool = Field(False, description="deal the costs to random episodes of the group")

    _readings: Readings = PrivateAttr(default_factory=Readings)

    @field_validator("monitor")
    @classmethod
    def _reads_no_truth(cls, monitor: Monitor) -> Monitor:
        refuse_oracle(monitor, "use Penalty with labels: oracle in its place")
        return monitor

    @field_validator("traits")
    @classmethod
    def _known(cls, traits: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [trait for trait in traits if trait not in TRAITS]:
            raise ValueError(f"unknown trait {unknown[0]!r}; the traits are {', '.join(TRAITS)}")
        return traits

    def cost_group(self, episodes: Sequence[Episode]) -> list[NDArray[np.float64]]:
        """Cost per turn of every episode of one group, in units of proxy reward."""
        costs = [self.priced(episode) for episode in episodes]
        return dealt(costs, episodes) if self.placebo else costs

    def priced(self, episode: Episode) -> NDArray[np.float64]:
        """The price of what the monitor suspects in an episode, shape [turns]."""
        scores = self._readings.of(self.monitor, self.shown(episode), self.traits)
        return self.penalty * (scores if self.threshold is None else (scores >= self.threshold).astype(np.float64))

    def shown(self, episode: Episode) -> Episode:
        """What the monitor is shown of an episode."""
        return episode

    def readings(self, episode: Episode) -> Mapping[str, NDArray[Any]]:
        return {"suspicion": self._readings.of(self.monitor, self.shown(episode), self.traits)}
