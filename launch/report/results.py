"""What a study measured, computed once. Every section of a report reads from it, and none reads files of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from envs.episode import Episode
from launch.report.claims.judge import Verdict, judge_study
from launch.report.load import Study
from launch.report.palette import FAMILY_LABELS, styles
from launch.report.table import NOTHING, Interval, Values, compare, summarise, values_of
from launch.report.transcripts import Read

Cells = Mapping[str, Mapping[str, Interval]]
"""Arm -> metric -> interval over seeds."""


@dataclass(frozen=True)
class ArmView:
    """An arm as every table shows it."""

    name: str
    title: str
    family: str
    """What kind of arm it is, in words."""
    colour: str
    seeds: int
    """Complete runs."""


@dataclass(frozen=True)
class Results:
    """A study that was read, and what follows from it."""

    study: Study
    delta: float
    """Smallest effect of interest, in the unit of the rates and of reward access."""
    values: Values
    """Arm -> metric -> seed -> value, without readings that may not be quoted."""
    cells: Cells
    compared: Cells
    """Paired differences to the reference arm at the same point of the axes."""
    verdicts: Sequence[Verdict]
    arms: Mapping[str, ArmView]
    read: Read
    """Opens an episode file."""

    @property
    def shown(self) -> list[ArmView]:
        """The arms with at least one complete run."""
        return [arm for arm in self.arms.values() if arm.seeds]

    def cell(self, arm: ArmView, metric: str) -> Interval:
        return self.cells.get(arm.name, {}).get(metric, NOTHING)

    def difference(self, arm: ArmView, metric: str) -> Interval:
        return self.compared.get(arm.name, {}).get(metric, NOTHING)

    @property
    def updates(self) -> str:
        """How many updates its runs have."""
        return " or ".join(str(n) for n in sorted({len(run.train) for run in self.study.runs}))


def gather(study: Study, delta: float, read: Read) -> Results:
    """Compute everything. `read` opens an episode file."""
    values = values_of(study)
    look = styles(study.arms)
    arms = {
        name: ArmView(name, arm.title, FAMILY_LABELS.get(arm.group, arm.group), look[name].colour, len(study.of(name)))
        for name, arm in study.arms.items()
    }
    cells, compared = summarise(values), compare(study, values)
    return Results(study, delta, values, cells, compared, judge_study(study, values, delta), arms, read)


def read_stored(path: Path) -> Sequence[Episode]:
    """Episodes of a Parquet file."""
    from envs.store import read_episodes

    return read_episodes(path)
