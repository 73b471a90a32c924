"""Gates as a table: rows for the terminal, for pages and for reports, and lines of equal columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.escaping import plain
from shaping.organisms.gates.record import GATES, MEANINGS, Gate, GateName, Gates, Part

HEAD = ("world", "gate", "what a subject does that passes", "measured", "value, 95% interval", "needed", "result")
MARKS = {True: "passed", False: "FAILED"}


@dataclass(frozen=True)
class Row:
    """One number of one gate in one world, as text."""

    world: str
    gate: str
    meaning: str
    measured: str
    value: str
    needed: str
    result: str
    """The mark of this number (a gate passes if all of its numbers do), or why there is none."""
    passed: bool | None
    """That mark; None if it was not measured or does not apply."""

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of `HEAD`."""
        return self.world, self.gate, self.meaning, self.measured, self.value, self.needed, self.result


def rows(gates: Gates) -> list[Row]:
    """Of every world, in the order of the gates."""
    return [
        row
        for world, found in sorted(gates.worlds.items())
        for gate in GATES
        if gate in found.gates
        for row in rows_of(world, gate, found.gates[gate])
    ]


def rows_of(world: str, name: GateName, gate: Gate) -> list[Row]:
    """One row per number of the gate; one without a number if it has none."""
    without = f"{gate.status}: {gate.why}" if gate.why else gate.status
    parts: tuple[Part | None, ...] = gate.parts or (None,)
    return [
        Row(
            world=world,
            gate=name,
            meaning=MEANINGS[name],
            measured=f"{part.name} ({part.count} {part.unit})" if part else "",
            value=plain(part.value, part.low, part.high) if part else "–",
            needed=f"{'≥' if part.bound == 'at least' else '≤'} {part.threshold:g}" if part else "",
            result=MARKS[part.passed] if part else without,
            passed=part.passed if part else None,
        )
        for part in parts
    ]


def lines(head: Sequence[str], cells: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width."""
    widths = [max(len(row[k]) for row in (head, *cells)) for k in range(len(head))]
    return [
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in (head, *cells)
    ]


def failures(gates: Gates, needed: Sequence[str], worlds: Sequence[str]) -> list[str]:
    """Gates of `needed` that a model does not pass, each with its world. One that does not apply is none of them."""
    missing = []
    for world in worlds:
        found = gates.worlds[world].gates if world in gates.worlds else {}
        for name, gate in ((name, found.get(name)) for name in needed):  # type: ignore[call-overload]
            if gate is None:
                missing.append(f"{name} in {world}: not measured" + (" (add --train)" if name == "M6" else ""))
            elif gate.status == "not measured":
                missing.append(f"{name} in {world}: not measured, {gate.why}")
            elif gate.passed is False:
                missing.append(f"{name} in {world}: failed")
    return missing
