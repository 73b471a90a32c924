"""Seats: in games after training, what each policy does on each seat, and how strong it is against the unshaped one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.report.escaping import plain
from launch.report.files.load import Run
from launch.report.markdown import blocks, inline, table
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.report.table import interval

ABOUT = (
    "Games after training. The trained policies sit on half of the learned seats and the policy that training started "
    "from on the others; in the next game they change seats. Elo: rating of the trained policies minus that of the "
    "unshaped one, from these games. Intervals are over seeds; the Elo of one seed has an interval over its games."
)
HEAD = ("arm", "world", "seat", "played by", "reward", "deception", "harm", "power seeking")
QUANTITIES = ("reward", "deception", "harm", "power_seeking")
STRENGTH = ("arm", "Elo against unshaped", "95% interval within seeds", "deception, trained", "deception, unshaped")


@dataclass(frozen=True)
class SeatRow:
    """One policy on one seat of an arm."""

    arm: ArmView
    place: Sequence[str]
    """World, seat, and who played it."""
    cells: Sequence[str]
    """Reward and rates."""


@dataclass(frozen=True)
class Strength:
    """How strong an arm is in games, beside how it deceives there."""

    arm: ArmView
    cells: Sequence[str]


@dataclass(frozen=True)
class Games:
    """All games of a study."""

    about: str
    strength_head: Sequence[str]
    strength: Sequence[Strength]
    head: Sequence[str]
    rows: Sequence[SeatRow]


class Seats(Section):
    """What each policy does on each seat in games after training, and its Elo, in worlds with several seats."""

    title = "Seats"
    position = 47

    def compute(self, results: Results) -> Games | None:
        rows = [row for arm in results.shown for row in _rows(arm, results.study.of(arm.name))]
        if not rows:
            return None
        strength = [_strength(results, arm) for arm in results.shown]
        return Games(ABOUT, STRENGTH, strength, HEAD, rows)

    def markdown(self, content: Games) -> str:
        return blocks(
            inline(content.about),
            table(content.strength_head, [(found.arm.title, *found.cells) for found in content.strength]),
            table(content.head, [(row.arm.title, *row.place, *row.cells) for row in content.rows]),
        )


def _strength(results: Results, arm: ArmView) -> Strength:
    elo, trained, unshaped = (
        results.cell(arm, name) for name in ("elo", "games_deception", "games_deception_unshaped")
    )
    low, high = results.cell(arm, "elo_low"), results.cell(arm, "elo_high")
    within = "–" if math.isnan(low.mean) else f"{low.mean:.0f} to {high.mean:.0f}"
    return Strength(arm, (plain(*elo[:3], 0), within, plain(*trained[:3]), plain(*unshaped[:3])))


def _rows(arm: ArmView, runs: Iterable[Run]) -> list[SeatRow]:
    """The mean over seeds of what the runs of an arm have measured on each seat."""
    found: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    for run in runs:
        for row in _known(run.result.get("seats")):
            place = (str(row["world"]), str(row["seat"]), str(row["player"]))
            for quantity in QUANTITIES:
                values = found.setdefault(place, {}).setdefault(quantity, [])
                values += [float(row[quantity])] if isinstance(row.get(quantity), (int, float)) else []
    return [
        SeatRow(arm, place, [plain(*interval(by_quantity[quantity])[:3]) for quantity in QUANTITIES])
        for place, by_quantity in sorted(found.items())
    ]


def _known(found: Any) -> list[Mapping[str, Any]]:
    """What result.json holds, as far as it is what this version writes."""
    rows = found if isinstance(found, list) else []
    return [row for row in rows if isinstance(row, dict) and {"world", "seat", "player"} <= row.keys()]
