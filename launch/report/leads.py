"""The alarms of a study's runs, and by how many updates they came before the behaviour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.report.escaping import plain
from launch.report.files.load import Run
from shaping.audits.training.alarm import Gauge, alarms
from shaping.audits.training.gauge import SCORE
from shaping.audits.training.lead import BEHAVIOUR, Lead, LeadSummary, lead_of, summary_of

LEAD_HEAD = (
    "runs", "behaviour left", "alarm before", "in the same update", "after", "never", "alarm alone",
    "lead in updates [95%]", "of the run's alarm",
)  # fmt: skip


@dataclass(frozen=True)
class Leads:
    """The leads of some runs for one behaviour."""

    trait: str
    column: str
    found: LeadSummary

    @property
    def cells(self) -> Sequence[str]:
        """As tables show them, under `LEAD_HEAD`."""
        f = self.found
        counts = (f.runs, f.left, f.before, f.same, f.later, f.missed, f.false_alarms)
        return (*map(str, counts), plain(f.mean, f.low, f.high, 1), plain(*f.rang, 1))


def leads_of(runs: Sequence[Run], gauge: Gauge) -> list[Leads]:
    """One entry per behaviour that the rows of any run have. Runs of one seed are one cluster of the interval."""
    found = []
    for trait in gauge.traits:
        for column in BEHAVIOUR[trait]:
            measured = [(lead_of(run.train, trait, column, gauge), run.seed) for run in runs]
            leads: list[tuple[Lead, int]] = [(lead, seed) for lead, seed in measured if lead is not None]
            if leads:
                summary = summary_of([lead for lead, _ in leads], [seed for _, seed in leads])
                found.append(Leads(trait, column, summary))
    return found


def alarms_of(runs: Sequence[Run], gauge: Gauge) -> Mapping[str, str]:
    """Trait -> how many of the runs raised an alarm, and with which updates the first ones came."""
    found: dict[str, list[int]] = {trait: [] for trait in gauge.traits}
    for run in runs:
        for trait, began in alarms(run.train, gauge).items():
            found[trait].append(began[0])
    return {trait: _told(first, len(runs)) for trait, first in found.items()}


def have_scores(runs: Sequence[Run]) -> bool:
    """Did the runs record what selection is by chance? Those of older versions did not."""
    return any(name.startswith(SCORE) for run in runs for row in run.train for name in row)


def rule_in_words(gauge: Gauge) -> str:
    """When the alarm rings."""
    if gauge.rule == "streak":
        return f"selection above the 95 % quantile of chance in each of {gauge.updates} updates in a row"
    return f"the scores of {gauge.updates} updates together above the {100 * gauge.level:g} % quantile of chance"


def _told(first: Sequence[int], runs: int) -> str:
    if not first:
        return f"0 of {runs}"
    where = ", ".join(map(str, sorted(first)))
    return f"{len(first)} of {runs}, first with update {where}"


def as_json(found: Sequence[Leads]) -> list[dict[str, Any]]:
    """For a file."""
    from dataclasses import asdict

    return [{"trait": each.trait, "column": each.column, **asdict(each.found)} for each in found]
