"""What each intervention of an arm did, by name: an arm may hold several, of which one does it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from launch.report.markdown import blocks, table
from launch.report.metrics import Metric
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval
from shaping.audits.training.interventions import BY_INTERVENTION, MEMBER

ABOUT = (
    "Each intervention by itself: its own part of the credit in training, what it alone makes impossible, and the "
    "pressure under an arm that holds it alone."
)


@dataclass(frozen=True)
class InterventionTable:
    """Rows are the interventions of arms."""

    about: str
    metrics: Sequence[Metric]
    rows: Sequence[tuple[ArmView, str, Sequence[Interval]]]


class Interventions(Section):
    """The audits of every intervention, also where an arm has several."""

    title = "Interventions one by one"
    position = 45
    continues = True

    def compute(self, results: Results) -> InterventionTable | None:
        rows = [
            (arm, name, [results.cell(arm, metric.name.replace(MEMBER, name)) for metric in BY_INTERVENTION])
            for arm in results.shown
            for name in _names(results, arm)
        ]
        metrics = [metric for i, metric in enumerate(BY_INTERVENTION) if any(cells[i].n for _, _, cells in rows)]
        kept = [i for i, metric in enumerate(BY_INTERVENTION) if metric in metrics]
        return InterventionTable(ABOUT, metrics, [(a, n, [c[i] for i in kept]) for a, n, c in rows]) if rows else None

    def markdown(self, content: InterventionTable) -> str:
        head = ("arm", "intervention", *(metric.label for metric in content.metrics))
        rows = [(arm.title, name, *[plain(*cell[:3]) for cell in cells]) for arm, name, cells in content.rows]
        return blocks(content.about, table(head, rows))


def _names(results: Results, arm: ArmView) -> list[str]:
    """The interventions of which the arm's runs measured anything, in the order of the arm."""
    befores = [metric.name.removesuffix(MEMBER) for metric in BY_INTERVENTION]
    found = (m.removeprefix(b) for b in befores for m in results.cells.get(arm.name, {}) if m.startswith(b))
    return list(dict.fromkeys(found))
