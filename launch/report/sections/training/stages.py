"""What the stages of fine-tuning did: their data, their methods, and how the policy behaved after each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.report.escaping import plain
from launch.report.markdown import blocks, inline, table
from launch.report.metrics import further_metrics, main_metrics
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from shaping.audits.conduct.cells import AFTER_PREFIX

ABOUT = (
    "Each stage starts from the policy that the one before has left, and ends with its evaluation, without prompts, "
    "hooks and quarantine adapters. The numbers are means over seeds with 95 % intervals."
)
HEAD = ("stage", "kind", "data", "control", "interventions", "updates")
MOST = 6
"""Metrics that the table shows: the main ones, then traits of text."""


@dataclass(frozen=True)
class StageRow:
    arm: ArmView
    cells: Sequence[str]


@dataclass(frozen=True)
class StageTable:
    """The stages of all arms, in their order."""

    about: str
    head: Sequence[str]
    rows: Sequence[StageRow]


class Stages(Section):
    """Per arm and stage its data, control, interventions and updates, and the main metrics after it."""

    title = "Stages of fine-tuning"
    position = 35

    def compute(self, results: Results) -> StageTable | None:
        found = {arm.name: _stages(results, arm) for arm in results.shown}
        if not any(found.values()):
            return None
        measured = {name for cells in results.cells.values() for name in cells}
        names = [stage["name"] for stages in found.values() for stage in stages]
        shown = [
            metric
            for metric in (*main_metrics(), *further_metrics())
            if any(f"{AFTER_PREFIX}{name}/{metric.name}" in measured for name in names)
        ]
        text = [metric for metric in shown if metric.name.startswith("text_")]
        shown = [*text, *(metric for metric in shown if metric not in text)][:MOST]
        rows = [
            StageRow(arm, [*_described(stage), *(_after(results, arm, stage["name"], metric.name) for metric in shown)])
            for arm in results.shown
            for stage in found[arm.name]
        ]
        return StageTable(ABOUT, (*HEAD, *(metric.label for metric in shown)), rows)

    def markdown(self, content: StageTable) -> str:
        rows = [(row.arm.title, *map(inline, row.cells)) for row in content.rows]
        return blocks(inline(content.about, len(content.about)), table(("arm", *content.head), rows))


def _stages(results: Results, arm: ArmView) -> list[Mapping[str, Any]]:
    runs = results.study.of(arm.name)
    return list(runs[0].result.get("stages") or ()) if runs else []


def _described(stage: Mapping[str, Any]) -> list[str]:
    methods = ", ".join(map(str, stage.get("interventions") or ())) or "none"
    keys = ("name", "kind", "data", "control")
    return [*(str(stage.get(key) or "–") for key in keys), methods, str(stage.get("updates", "–"))]


def _after(results: Results, arm: ArmView, stage: str, metric: str) -> str:
    cell = results.cell(arm, f"{AFTER_PREFIX}{stage}/{metric}")
    return plain(*cell[:3]) if cell.n else "–"
