"""What claims share that fit the log-odds of a world's metric by the pressure index, over all points of a study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from pydantic import Field

from launch.config.study import StudyConfig
from launch.report.claims.base import Claim
from launch.report.claims.pressure import world_of
from launch.report.claims.table import Table
from launch.report.statistics.chances import EPISODES


class PressedRun(NamedTuple):
    """One run in the fit."""

    arm: str
    seed: int
    pressure: float
    share: float
    """Of its episodes that show the trait."""
    episodes: float
    subject: str


class PressureFit(Claim):
    """A claim about the fit of all runs; it is judged once for all points of the axes in `across`."""

    across: tuple[str, ...] = Field(
        ("point",), description="axes whose points are pooled; at the points of other axes the claim is judged apart"
    )

    @property
    def axes(self) -> tuple[str, ...]:
        return self.across

    def problems(self, study: StudyConfig) -> Iterator[str]:
        yield from super().problems(study)
        for index, metric in enumerate(self.metrics):
            if not world_of(metric):
                yield f"metrics.{index}: {metric} is of no one world, and pressure is: name it, as in {metric}.steward"


def pressed_runs(table: Table, metric: str, arms: Sequence[str]) -> list[PressedRun]:
    """The runs of these arms that have both a value of the metric and a pressure in its world."""
    found = []
    for arm in arms:
        pressures, known = table.column(arm, f"pressure.{world_of(metric)}"), table.evidence.chances.get(arm, {})
        episodes = max(known.get(metric, known.get(EPISODES, 0.0)), 1.0)
        for seed, share in table.column(arm, metric).items():
            if seed in pressures:
                subject = table.evidence.subjects.get(seed, "")
                found.append(PressedRun(arm, seed, pressures[seed], share, episodes, subject))
    return found
