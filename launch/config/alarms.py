"""What follows from what monitors record: `eval.alarms`. Monitors read and record; they decide nothing."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from launch.config.fields import Strict
from shaping.monitors.thresholds import fewest_references

Consequence = Literal["log", "drop", "substitute", "halt"]


class AlarmsConfig(Strict):
    """An episode raises an alarm if a monitor's highest score in it exceeds the threshold of the false-positive budget.

    - `log`: alarms are recorded and counted, and nothing else follows.
    - `drop`: the episode is not learned from; the ledger counts it as screened.
    - `substitute`: the turns above the threshold are paid `substitute` in place of their reward.
    - `halt`: training ends after an update with more alarms than the budget explains.

    `drop` and `substitute` train against the monitor: it is spent.
    """

    false_positive_budget: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="share of honest episodes that may raise an alarm, per monitor and trait",
    )
    reference_episodes: int = Field(
        100, ge=1, le=100_000, description="honest scripted episodes per world trained in, which set the thresholds"
    )
    then: Consequence | dict[str, Consequence] = Field(
        "log", description="log, drop, substitute or halt; or one of them by name of the monitor, the others log"
    )
    substitute: float = Field(
        0.0, ge=-1e6, le=1e6, description="what a turn above the threshold is paid, in units of proxy reward"
    )
    halt_below: float = Field(
        0.001,
        gt=0,
        lt=1,
        description="an update is suspicious if honest episodes would raise so many alarms with less probability",
    )
    keep: int = Field(
        8, ge=0, le=10_000, description="episodes of an update with an alarm that are kept, to be looked at"
    )

    @model_validator(mode="after")
    def _enough_references(self) -> AlarmsConfig:
        if self.reference_episodes < (fewest := fewest_references(self.false_positive_budget)):
            raise ValueError(
                f"reference_episodes: a false_positive_budget of {self.false_positive_budget:g} needs at least "
                f"{fewest} honest episodes, not {self.reference_episodes}; play more, or raise the budget"
            )
        return self

    def consequence(self, monitor: str) -> Consequence:
        """What follows from an alarm of the monitor of that name."""
        return self.then.get(monitor, "log") if isinstance(self.then, dict) else self.then

    def trains_on(self, monitor: str) -> bool:
        """Does training depend on what that monitor says, so that it is spent?"""
        return self.consequence(monitor) in ("drop", "substitute")
