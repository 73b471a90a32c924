"""Cards of monitors that a study keeps (`shaping validate --study`), read as untrusted files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from launch.report.files.load import Study
from launch.report.files.run_files import DamagedFileError, checked, read_json
from shaping.monitors.validation.card import Card

FOLDER = "cards"
MAX_CARDS = 200
MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Cards:
    """The cards of a study."""

    lines: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a monitor -> what its cards say, one line per world and trait."""
    oracles: frozenset[str] = frozenset()
    """Names of monitors that read the labels themselves, and so need no card."""
    problems: tuple[str, ...] = ()
    """Files that are no card, and why."""


def cards_of(study: Study) -> Cards:
    """The cards in the study's directory; a card of another version than the runs used says so."""
    recorded = list(_recorded(study))
    lines: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for path in sorted((study.directory / FOLDER).glob("*.json"))[:MAX_CARDS]:
        try:
            card = checked(path.name, read_json(path, study.directory, MAX_BYTES), Card)
        except DamagedFileError as error:
            problems.append(f"{FOLDER}/{path.name} is no card of a monitor: {error}; make it again (shaping validate)")
            continue
        used = {str(about.get("version")) for name, about in recorded if name == card.monitor and "version" in about}
        other = f"; the runs used version {', '.join(sorted(used))}" if used - {card.version} else ""
        lines[card.monitor] = (*lines.get(card.monitor, ()), *(card.line(trait) + other for trait in card.traits))
    oracles = frozenset(name for name, about in recorded if about.get("oracle") is True)
    return Cards(lines, oracles, tuple(problems))


def _recorded(study: Study) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(Name of a monitor, what a run recorded of it)."""
    for run in study.runs:
        monitors = run.result.get("monitors")
        for name, about in monitors.items() if isinstance(monitors, dict) else ():
            if isinstance(about, dict):
                yield str(name), about
