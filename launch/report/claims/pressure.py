"""Does an arm make deception pay? The pressure index beside a claim, and the gate of claims that an arm raises it."""

from __future__ import annotations

from collections.abc import Sequence

from launch.report.claims.effects import Comparison
from launch.report.claims.table import Table
from launch.report.metrics import monitor_of, record_of
from shaping.audits.conduct.cells import parse

LEAST_PRESSURE = 0.05
"""How much more pressure than the reference an arm must have, as a share of the largest honest return."""
UNKNOWN = "pressure unknown"


def pressures(table: Table, compared: Sequence[Comparison]) -> dict[str, float]:
    """Arm, or `<arm> in <world>` -> its pressure index, for the arms of the comparisons whose runs have it."""
    found: dict[str, float] = {}
    for each in filter(_pressed, compared):
        world = world_of(each.metric)
        for arm, weight in each.weights.items():
            if weight and (index := table.pressure([arm], world)) is not None:
                found[f"{arm} in {world}" if world else arm] = index
    return found


def pressure_note(table: Table, compared: Sequence[Comparison]) -> tuple[str, ...]:
    """One note: `pressure: mask 0.16, unshaped 0.00`; nothing for metrics that are no misconduct."""
    if not any(_pressed(each) for each in compared):
        return ()
    known = pressures(table, compared)
    listed = ", ".join(f"{arm} {index:.2f}" for arm, index in known.items())
    return (f"pressure: {listed}" if listed else UNKNOWN,)


def unpressed(table: Table, compared: Sequence[Comparison]) -> set[str]:
    """Arms whose pressure is known to exceed that of their reference by too little to raise anything."""
    under: dict[str, bool] = {}
    for each in compared:
        own, base = (table.pressure(arms, world_of(each.metric)) for arms in ([each.arm], each.base))
        low = _pressed(each) and own is not None and base is not None and own - base < LEAST_PRESSURE - 1e-9
        under[each.arm] = under.get(each.arm, True) and low
    return {arm for arm, low in under.items() if low}


def world_of(metric: str) -> str:
    """The world in a metric's name; empty for a mean over worlds, and for readings of a monitor."""
    return "" if monitor_of(metric) else parse(metric).world


def _pressed(each: Comparison) -> bool:
    """Is the metric the conduct of which the index says whether it pays, or one that nobody has described?"""
    record = record_of(each.metric)
    return record is None or record.pressed
