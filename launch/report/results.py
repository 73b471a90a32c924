"""What a study measured, computed once. Every section of a report reads from it, and none reads files of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.report.claims.judge import Verdict, judge_study
from launch.report.files.cards import Cards, cards_of
from launch.report.files.load import ArmInfo, Study
from launch.report.palette import FAMILY_LABELS, styles
from launch.report.table import NOTHING, Interval, Values, compare, summarise, values_of
from launch.report.transcripts import Read
from shaping.audits.training.order import describe_order

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
    order: str = ""
    """In which order its credit put episodes, in words; empty for the reference, and where nothing was trained."""


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
    """Differences to the reference arm at the same point of the axes."""
    verdicts: Sequence[Verdict]
    arms: Mapping[str, ArmView]
    read: Read
    """Opens an episode file."""
    cards: Cards = Cards()
    """What is known of how good the monitors are."""

    @property
    def shown(self) -> list[ArmView]:
        """The arms with at least one complete run."""
        return [arm for arm in self.arms.values() if arm.seeds]

    def cell(self, arm: ArmView, metric: str) -> Interval:
        return self.cells.get(arm.name, {}).get(metric, NOTHING)

    def difference(self, arm: ArmView, metric: str) -> Interval:
        return self.compared.get(arm.name, {}).get(metric, NOTHING)

    @property
    def distrusted(self) -> bool:
        """Did a control not come out as it must, so that nothing else is to be believed?"""
        return any(verdict.must and not verdict.behaved for verdict in self.verdicts)

    @property
    def updates(self) -> str:
        """How many updates its runs have."""
        return " or ".join(str(n) for n in sorted({len(run.train) for run in self.study.runs}))


def gather(study: Study, delta: float, read: Read) -> Results:
    """Compute everything. `read` opens an episode file."""
    values = values_of(study)
    cells, compared = summarise(values), compare(study, values)
    look = styles(study.arms)
    arms = {
        name: ArmView(
            name,
            arm.title,
            FAMILY_LABELS.get(arm.group, arm.group),
            look[name].colour,
            len(study.of(name)),
            _order(arm, cells),
        )
        for name, arm in study.arms.items()
    }
    verdicts = judge_study(study, values, delta)
    return Results(study, delta, values, cells, compared, verdicts, arms, read, cards_of(study))


def _order(arm: ArmInfo, cells: Cells) -> str:
    """A shaper may price actions through its credit and still be of the motivation family: its order tells."""
    found = cells.get(arm.name, {}).get("order_violations", NOTHING)
    return describe_order(found.mean) if found.n and arm.group != "unshaped" else ""
