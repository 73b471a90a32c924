"""The same arms world by world, those apart in which no arm trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from launch.report.markdown import table
from launch.report.metrics import Metric, metrics_per_world
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval


@dataclass(frozen=True)
class WorldTable:
    """Rows are arms; columns are worlds, each with all metrics. `worlds`: name, held out or not."""

    worlds: Sequence[tuple[str, bool]]
    metrics: Sequence[Metric]
    cells: Sequence[tuple[ArmView, Sequence[Sequence[Interval]]]]
    """Arm, world, metric."""


class ByWorld(Section):
    """A few metrics, per world of the evaluation."""

    title = "By world"
    position = 40
    continues = True

    def compute(self, results: Results) -> WorldTable | None:
        study, metrics = results.study, metrics_per_world()
        cells = [
            (arm, [[results.cell(arm, f"{m.name}.{world}") for m in metrics] for world in study.worlds])
            for arm in results.shown
        ]
        worlds = [(world, world in study.held_out_worlds) for world in study.worlds]
        return WorldTable(worlds, metrics, cells) if worlds else None

    def markdown(self, content: WorldTable) -> str:
        head = [
            f"{world}{' (held out)' if held_out else ''}: {metric.label}"
            for world, held_out in content.worlds
            for metric in content.metrics
        ]
        rows = [
            (arm.title, *[plain(*cell[:3]) for cells in by_world for cell in cells]) for arm, by_world in content.cells
        ]
        return table(("arm", *head), rows)
