"""Every arm by every main metric, with what monitors read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from launch.report.escaping import plain
from launch.report.markdown import blocks, bullets, table
from launch.report.metrics import Metric, main_metrics, monitor_label, monitor_of
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.sections.hiding import COLUMNS, quantity_of
from launch.report.table import Interval, withheld


class Reading(NamedTuple):
    """A number of a monitor; `spent`: the arm was trained against that monitor."""

    interval: Interval
    spent: bool


@dataclass(frozen=True)
class ArmTable:
    """Rows are arms. `withheld`: what is said of readings that the report refuses to quote, arm by arm."""

    metrics: Sequence[Metric]
    cells: Sequence[tuple[ArmView, Sequence[Interval]]]
    monitors: Sequence[str]
    readings: Sequence[tuple[ArmView, Sequence[Reading]]]
    withheld: Sequence[tuple[str, str]]
    labels: Sequence[tuple[str, str]] = ()
    """Arm, and where one of its methods gets its labels from."""
    cards: Sequence[str] = ()
    """How good the monitors are that were read, a line for each card and trait."""


class Arms(Section):
    """The main table: mean over seeds and interval of every arm."""

    title = "Arms"
    position = 30

    def compute(self, results: Results) -> ArmTable:
        metrics = main_metrics()
        read = {name for cells in results.cells.values() for name in cells if monitor_of(name)}
        names = sorted(name for name in read if quantity_of(name) not in COLUMNS)
        return ArmTable(
            metrics,
            [(arm, [results.cell(arm, metric.name) for metric in metrics]) for arm in results.shown],
            [monitor_label(name) for name in names],
            [(arm, [_reading(results, arm, name) for name in names]) for arm in results.shown],
            [(results.arms[arm].title, _refusal(monitors)) for arm, monitors in withheld(results.study).items()],
            [(arm.title, told) for arm in results.shown for told in results.study.arms[arm.name].labels],
            _cards(results, names),
        )

    def markdown(self, content: ArmTable) -> str:
        head = ("arm", *[metric.label for metric in content.metrics], "seeds")
        rows = [(arm.title, *[plain(*c[:3]) for c in cells], str(arm.seeds)) for arm, cells in content.cells]
        readings = [(arm.title, *[_told(reading) for reading in found]) for arm, found in content.readings]
        return blocks(
            "Mean over seeds [95% t interval], at deployment.",
            table(head, rows),
            bullets(f"{arm.title}: {arm.family}, {arm.order}" for arm, _ in content.cells if arm.order),
            bullets(f"{arm}: labels of {told}" for arm, told in content.labels),
            *(["Readings of monitors.", table(("arm", *content.monitors), readings)] if content.monitors else []),
            bullets(f"{arm}: {refusal}" for arm, refusal in content.withheld),
            bullets(content.cards),
        )


def _reading(results: Results, arm: ArmView, name: str) -> Reading:
    found = results.cell(arm, name)
    return Reading(found, bool(found.n) and monitor_of(name) in results.study.arms[arm.name].spent_monitors)


def _cards(results: Results, names: Sequence[str]) -> list[str]:
    """The cards of the monitors that metrics quote; those without a card are named."""
    monitors = dict.fromkeys(monitor for name in names if (monitor := monitor_of(name)))
    lines = [line for monitor in monitors for line in results.cards.lines.get(monitor, ())]
    bare = [monitor for monitor in monitors if monitor not in {*results.cards.lines, *results.cards.oracles}]
    if bare:
        lines.append(
            f"No card tells how good {', '.join(bare)} {'is' if len(bare) == 1 else 'are'} (shaping validate)."
        )
    return [*lines, *results.cards.problems]


def _refusal(monitors: Sequence[str]) -> str:
    them = "it" if len(monitors) == 1 else "them"
    return (
        f"the readings of {', '.join(monitors)} are withheld. The arm was trained against {them}, and no held-out "
        f"monitor was read beside {them}."
    )


def _told(reading: Reading) -> str:
    return plain(*reading.interval[:3]) + (" (spent)" if reading.spent else "")
