"""Writes the table of gates of the shipped organisms into docs/organisms.md, from their cards.

`python -m docs.render_gates` after `shaping check-model shipped:N`; a test compares page and cards.
"""

from __future__ import annotations

from pathlib import Path

from docs.marked_tables import between_marks
from shaping.organisms.corpus.corpus_options import SIZES
from shaping.organisms.gates.record import Gate
from shaping.organisms.gates.store import gates_of
from shaping.organisms.shipped import COUNT, shipped

PAGE = Path(__file__).with_name("organisms.md")
GATES = ("M1", "M2", "M3", "M4", "M5", "M6")


def _cell(gate: Gate | None) -> str:
    """The values of a gate, those that miss their threshold in bold; a dash where it was not measured."""
    if gate is None or not gate.parts:
        return "–"
    told = []
    for part in gate.parts:
        met = part.value >= part.threshold if part.bound == "at least" else part.value <= part.threshold
        told.append(f"{part.value:.2f}" if met else f"**{part.value:.2f}**")
    return ", ".join(told)


def table() -> str:
    """World by world, one line per organism."""
    lines = ["| world | organism | M1 | M2 | M3 | M4: guilty, innocent | M5 | M6 |", "|---" * 8 + "|"]
    for world in SIZES:
        for number in range(COUNT):
            known = gates_of(shipped(number))
            found = known.worlds[world].gates if known and world in known.worlds else {}
            cells = " | ".join(_cell(found.get(gate)) for gate in GATES)  # type: ignore[call-overload]
            lines.append(f"| {world} | {number} | {cells} |")
    return "\n".join(lines)


def rendered(text: str) -> str:
    """The page with the present table."""
    return between_marks(text, "gates", table())


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
