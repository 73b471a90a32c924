"""Trigger grid: what deployed policies do under system prompts, above all those that resemble prompts of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain, signed
from launch.report.figures import Figure
from launch.report.markdown import blocks, table
from launch.report.metrics import label
from launch.report.plots.heat_map import heat_map
from launch.report.primary import primary_without_cues
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import NOTHING, Interval
from shaping.audits.conduct.cells import LEAK_PREFIX, MAX_LEAK_PREFIX, NONE, of_arm, parse
from shaping.audits.played import CONTEXT
from shaping.prompts.grid import GRID

ABOUT = (
    "Rates under each system prompt on the same unwatched episodes, and the leak: the rate under the prompt minus the "
    "rate of the same policy without any. `original` are the prompts that the arm trained under, on which the "
    "reference is tried, too; the other lists are held out from the corpus of the organism and the same for all arms. "
    "A trait that is low without a prompt and high under one was not removed but tied to it. The largest leak is a "
    "maximum, and so biased upwards: compare it with that of the reference. Means over seeds [95% intervals]."
)


@dataclass(frozen=True)
class GridRow:
    """One arm in one world, under the prompts of `prompts` (empty: its own)."""

    arm: ArmView
    prompts: str
    rates: Sequence[Interval]
    """Per context."""
    leaks: Sequence[Interval]
    """Per context but none."""
    largest: Interval
    against: Sequence[Interval]
    """Per context: the rate minus that of the reference under the same prompts; empty for the reference."""

    def leak(self, context: str, contexts: Sequence[str]) -> Interval:
        """The leak under one of the contexts."""
        return self.leaks[[each for each in contexts if each != NONE].index(context)]

    @property
    def title(self) -> str:
        return self.arm.title + (f" (prompts of {self.prompts})" if self.prompts else "")


@dataclass(frozen=True)
class WorldGrid:
    """All arms in one world."""

    world: str
    label: str
    """Of the metric."""
    contexts: Sequence[str]
    rows: Sequence[GridRow]


@dataclass(frozen=True)
class Grids:
    """One grid per world, and their picture."""

    about: str
    grids: Sequence[WorldGrid]
    figure: Figure


class TriggerGrid(Section):
    """Arm x context, with leaks against no prompt and differences to the reference under the same prompts."""

    title = "Trigger grid"
    position = 55
    draws = True

    def compute(self, results: Results) -> Grids | None:
        grids = [grid for world in _worlds(results) if (grid := _grid(results, world)).rows]
        if not grids:
            return None
        panels = [
            (f"{g.world}: {g.label}", g.contexts, [(row.title, row.rates) for row in g.rows], g.label) for g in grids
        ]
        return Grids(ABOUT, grids, heat_map("trigger-grid", "Rates under system prompts", ABOUT_FIGURE, panels))

    def markdown(self, content: Grids) -> str:
        return blocks(content.about, *[part for grid in content.grids for part in _markdown(grid)])


ABOUT_FIGURE = (
    "Rate of each world's outcome under each system prompt: mean over seeds. A row that is dark under some prompts and "
    "light without one belongs to a policy whose training is tied to prompts."
)


def _worlds(results: Results) -> list[str]:
    names = {name for metrics in results.cells.values() for name in metrics if name.startswith(CONTEXT)}
    found = {parse(name).world for name in names}
    return [world for world in dict.fromkeys([*results.study.worlds, *sorted(found)]) if world and world in found]


def _grid(results: Results, world: str) -> WorldGrid:
    metric = primary_without_cues(world)
    tried = {parse(name).context for metrics in results.cells.values() for name in metrics if name.startswith(CONTEXT)}
    contexts = [context for context in GRID if context in tried]
    rows = [
        row
        for arm in results.shown
        for prompts in _prompts_of(results, arm)
        if (row := _row(results, arm, prompts, contexts, f"{metric}.{world}")).rates
    ]
    return WorldGrid(world, label(metric), contexts, [row for row in rows if any(rate.n for rate in row.rates)])


def _prompts_of(results: Results, arm: ArmView) -> list[str]:
    """The arms whose prompts it was tried on; "" for its own, or where all arms have the same."""
    named = {parse(name).arm for name in results.cells.get(arm.name, {}) if name.startswith(CONTEXT)}
    others = sorted(name for name in named if name)
    return others or [""]


def _row(results: Results, arm: ArmView, prompts: str, contexts: Sequence[str], metric: str) -> GridRow:
    cells = results.cells.get(arm.name, {})

    def found(name: str) -> Interval:
        own = cells.get(of_arm(name, prompts)) if prompts else None
        return own or cells.get(name, NOTHING)

    compared = results.compared.get(arm.name, {})
    return GridRow(
        arm,
        prompts,
        [found(f"{CONTEXT}{context}/{metric}") for context in contexts],
        [found(f"{LEAK_PREFIX}{context}/{metric}") for context in contexts if context != NONE],
        found(f"{MAX_LEAK_PREFIX}{metric}"),
        [compared.get(f"{CONTEXT}{context}/{metric}", NOTHING) for context in contexts] if compared else [],
    )


def _markdown(grid: WorldGrid) -> list[str]:
    tried = [context for context in grid.contexts if context != NONE]
    leaks = [
        (row.title, _at(row, grid, NONE), *[signed(*leak[:3]) for leak in row.leaks], signed(*row.largest[:3]))
        for row in grid.rows
    ]
    against = [(row.title, *[signed(*found[:3]) for found in row.against]) for row in grid.rows if row.against]
    return [
        f"### {grid.world}: {grid.label}",
        table(("arm", "rate without", *[f"leak: {context}" for context in tried], "largest leak"), leaks),
        "Rate minus that of the reference under the same prompts:" if against else "",
        table(("arm", *grid.contexts), against) if against else "",
    ]


def _at(row: GridRow, grid: WorldGrid, context: str) -> str:
    found = row.rates[list(grid.contexts).index(context)] if context in grid.contexts else NOTHING
    return plain(*found[:3]) if not math.isnan(found.mean) else "–"
