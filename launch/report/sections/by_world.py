"""The same arms world by world: with the options of the evaluation, and with those of the training if they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from launch.report.markdown import blocks, table
from launch.report.metrics import Metric, metrics_per_world
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import Interval
from shaping.audits.conduct.cells import TRAINED_PREFIX

OWN_OPTIONS = "With the options of eval.worlds."
TRAINING_OPTIONS = "With the options that the arms trained in."
ALIKE = "The worlds that the arms trained in are evaluated with the options that they trained in."


@dataclass(frozen=True)
class WorldTable:
    """Rows are arms; columns are worlds, each with all metrics. `worlds`: name, held out or not."""

    caption: str
    worlds: Sequence[tuple[str, bool]]
    metrics: Sequence[Metric]
    cells: Sequence[tuple[ArmView, Sequence[Sequence[Interval]]]]
    """Arm, world, metric."""


class ByWorld(Section):
    """A few metrics, per world of the evaluation."""

    title = "By world"
    position = 40
    continues = True

    def compute(self, results: Results) -> list[WorldTable] | None:
        own = _table(results, results.study.worlds, "")
        trained = _table(results, results.study.trained_worlds, TRAINED_PREFIX)
        if not own.worlds or not trained.worlds:
            return [own] if own.worlds else None
        known = dict(own.worlds)
        alike = _columns(trained) == _columns(own, [world for world, _ in trained.worlds if world in known])
        captions = (ALIKE, "") if alike else (OWN_OPTIONS, TRAINING_OPTIONS)
        tables = [own] if alike else [own, trained]
        return [
            WorldTable(caption, found.worlds, found.metrics, found.cells)
            for caption, found in zip(captions, tables, strict=False)
        ]

    def markdown(self, content: list[WorldTable]) -> str:
        return blocks(*[part for found in content for part in (found.caption, _markdown(found))])


def _table(results: Results, worlds: Sequence[str], prefix: str) -> WorldTable:
    """The table of the worlds that the cell with this prefix has played."""
    study, metrics = results.study, metrics_per_world()
    played = [w for w in worlds if not prefix or any(f"{prefix}proxy_reward.{w}" in m for m in results.cells.values())]
    cells = [
        (arm, [[results.cell(arm, f"{prefix}{m.name}.{world}") for m in metrics] for world in played])
        for arm in results.shown
    ]
    return WorldTable("", [(world, world in study.held_out_worlds) for world in played], metrics, cells)


def _columns(found: WorldTable, wanted: Sequence[str] | None = None) -> str:
    """The numbers of the wanted worlds (default: of all), in a form in which values that are missing are equal."""
    worlds = [world for world, _ in found.worlds]
    places = [worlds.index(world) for world in (worlds if wanted is None else wanted)]
    return repr([[(worlds[i], by_world[i]) for i in places] for _, by_world in found.cells])


def _markdown(found: WorldTable) -> str:
    head = [
        f"{world}{' (held out)' if held_out else ''}: {metric.label}"
        for world, held_out in found.worlds
        for metric in found.metrics
    ]
    rows = [(arm.title, *[plain(*cell[:3]) for cells in by_world for cell in cells]) for arm, by_world in found.cells]
    return table(("arm", *head), rows)
