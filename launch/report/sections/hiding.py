"""What monitors owe to the reasoning, what one catches that the others miss, and how policies hide from probes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from launch.report.markdown import blocks, inline, table
from launch.report.metrics import MONITOR_PREFIX, monitor_of
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section

ABOUT = (
    "Recall where at most 5 % of the turns without the trait are flagged, and the same of episodes without their "
    "reasoning. Catches: of the turns with the trait that no other monitor flags, the share that this one does. Of "
    "probes: the share of such turns whose text the model before training finds innocent, and by how much the policy's "
    "own states lower the score. Of persona directions: the drift in standard deviations, and what random directions "
    "show. Intervals are over seeds; a monitor that the arm was trained against is marked as spent, and what it reads "
    "there is no measure of the conduct."
)
COLUMNS = {
    "recall_with_reasoning": "recall",
    "recall_without_reasoning": "without reasoning",
    "catches_missed": "catches",
    "obf_policy": "innocent text",
    "obf_act": "lowered by states",
    "drift": "drift",
    "drift_chance": "of random directions",
}
"""Quantity -> its column. The table of arms leaves these to this section."""


@dataclass(frozen=True)
class HidingRow:
    """One monitor and trait in one arm."""

    arm: ArmView
    monitor: str
    cells: Sequence[str]


@dataclass(frozen=True)
class HidingTable:
    """All of them."""

    about: str
    head: Sequence[str]
    rows: Sequence[HidingRow]


class Hiding(Section):
    """Per arm and monitor: recall with and without the reasoning, what only it catches, and how policies escape it."""

    title = "What monitors miss"
    position = 32

    def compute(self, results: Results) -> HidingTable | None:
        names = sorted({name for cells in results.cells.values() for name in cells if quantity_of(name) in COLUMNS})
        if not names:
            return None
        shown = [column for column in COLUMNS if any(quantity_of(name) == column for name in names)]
        kinds = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
        rows = [row for arm in results.shown for kind in kinds if (row := _row(results, arm, kind, shown))]
        return HidingTable(ABOUT, [COLUMNS[column] for column in shown], rows)

    def markdown(self, content: HidingTable) -> str:
        rows = [(row.arm.title, row.monitor, *row.cells) for row in content.rows]
        return blocks(inline(content.about, len(content.about)), table(("arm", "monitor", *content.head), rows))


def quantity_of(metric: str) -> str:
    """`recall` of `monitor.claim_check.deception.recall`; empty for what is no reading of a monitor."""
    return metric.rpartition(".")[2] if metric.startswith(MONITOR_PREFIX) else ""


def _row(results: Results, arm: ArmView, kind: str, shown: Sequence[str]) -> HidingRow | None:
    cells = [results.cell(arm, f"{kind}.{column}") for column in shown]
    if not any(cell.n for cell in cells):
        return None
    spent = monitor_of(kind) in results.study.arms[arm.name].spent_monitors
    title = kind.removeprefix(MONITOR_PREFIX).replace(".", ", ").replace("_", " ")
    return HidingRow(arm, f"{title} (spent)" if spent else title, [plain(*cell[:3]) for cell in cells])
