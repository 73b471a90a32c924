"""What the tables say, drawn; and the differences to the reference arm, which Markdown shows as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import signed
from launch.report.figures import FOREST, Figure, figures
from launch.report.markdown import blocks, inline, table
from launch.report.metrics import label
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval


@dataclass(frozen=True)
class Drawn:
    """The figures, and the numbers of the one with the differences."""

    figures: Sequence[Figure]
    metrics: Sequence[str]
    differences: Sequence[tuple[ArmView, Sequence[Interval]]]
    reference: str
    """What the arm is called that the others are compared with."""


class Figures(Section):
    """Harm by reward, differences, cues, learning curves, selection pressure."""

    title = "Figures"
    position = 60
    draws = True

    def compute(self, results: Results) -> Drawn:
        return Drawn(
            figures(results.study, results.cells, results.compared, results.delta),
            [label(metric) for metric in FOREST],
            [
                (arm, [results.difference(arm, metric) for metric in FOREST])
                for arm in results.shown
                if arm.name in results.compared
            ],
            results.study.reference_label,
        )

    def markdown(self, content: Drawn) -> str:
        rows = [(arm.title, *[signed(*found[:3]) for found in differences]) for arm, differences in content.differences]
        return blocks(
            "The page has the figures. Here are the differences to the reference arm, "
            f"{inline(content.reference)}: mean difference [95% Welch interval].",
            table(("arm", *content.metrics), rows),
        )
