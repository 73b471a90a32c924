"""Early warning: did the training signal select for deception or power before the behaviour showed?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.leads import LEAD_HEAD, alarms_of, have_scores, leads_of, rule_in_words
from launch.report.markdown import blocks, inline, table
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section

ABOUT = (
    "The gauge compares what each update's training signal selects for with what it would select for by chance. Alarm: "
    "{rule}. Behaviour counts as changed by the same rule, against its first updates. Lead: updates from the alarm to "
    "the behaviour, over the runs with both; intervals are over seeds. Both are looked at from the same update on; the "
    "alarm of a run looks at all updates, and may have come earlier. Updates are numbered from 0. An alarm changes "
    "nothing in a run."
)
ESTIMATED = (
    "The runs recorded no scores of selection, as their version did not have them: no alarm was raised, and leads rest "
    "on its fluctuation between updates."
)
ALL = "all arms"


@dataclass(frozen=True)
class LeadRow:
    """One arm, or all (None), and one behaviour."""

    arm: ArmView | None
    behaviour: str
    cells: Sequence[str]


@dataclass(frozen=True)
class AlarmRow:
    arm: ArmView
    cells: Sequence[str]


@dataclass(frozen=True)
class Warnings:
    """All alarms and leads of a study."""

    about: str
    note: str
    traits: Sequence[str]
    alarms: Sequence[AlarmRow]
    head: Sequence[str]
    leads: Sequence[LeadRow]


class EarlyWarning(Section):
    """Alarms of the gauge of selection per arm, and how many updates they came before the behaviour."""

    title = "Early warning"
    position = 62

    def compute(self, results: Results) -> Warnings | None:
        study, gauge = results.study, results.study.config.gauge
        every = leads_of(study.runs, gauge)
        scored = have_scores(study.runs)
        if not every and not scored:
            return None
        of_arms = [(arm, study.of(arm.name)) for arm in results.shown]
        rows = [
            LeadRow(arm, each.column, each.cells)
            for arm, runs in of_arms
            for each in leads_of(runs, gauge)
            if each.found.left or each.found.false_alarms
        ]
        rows += [LeadRow(None, each.column, each.cells) for each in every]
        alarms = [AlarmRow(arm, list(alarms_of(runs, gauge).values())) for arm, runs in of_arms if scored]
        about = ABOUT.format(rule=rule_in_words(gauge))
        return Warnings(about, "" if scored else ESTIMATED, gauge.traits, alarms, LEAD_HEAD, rows)

    def markdown(self, content: Warnings) -> str:
        alarms = [(row.arm.title, *row.cells) for row in content.alarms]
        leads = [(row.arm.title if row.arm else ALL, row.behaviour, *row.cells) for row in content.leads]
        return blocks(
            inline(content.about, len(content.about)),
            inline(content.note),
            table(("arm", *content.traits), alarms) if alarms else "",
            table(("arm", "behaviour", *content.head), leads) if leads else "",
        )
