"""Cards of monitors that a study keeps (`shaping validate --study`), read as untrusted files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

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
    problems: tuple[str, ...] = ()
    """Files that are no card, and why."""


def cards_of(study: Study) -> Cards:
    """The cards in the study's directory; a card of another version than the runs used says so."""
    used = versions_of(study)
    lines: dict[str, tuple[str, ...]] = {}
    problems: list[str] = []
    for path in sorted((study.directory / FOLDER).glob("*.json"))[:MAX_CARDS]:
        try:
            card = checked(path.name, read_json(path, study.directory, MAX_BYTES), Card)
        except DamagedFileError as error:
            problems.append(f"{FOLDER}/{path.name} is no card of a monitor: {error}; make it again (shaping validate)")
            continue
        versions = used.get(card.monitor, set())
        other = f"; the runs used version {', '.join(sorted(versions))}" if versions - {card.version} else ""
        lines[card.monitor] = (*lines.get(card.monitor, ()), *(card.line(trait) + other for trait in card.traits))
    return Cards(lines, tuple(problems))


def versions_of(study: Study) -> dict[str, set[str]]:
    """Name of a monitor -> its versions in the runs, as far as they recorded them."""
    found: dict[str, set[str]] = {}
    for run in study.runs:
        about = run.result.get("monitors")
        for name, record in about.items() if isinstance(about, dict) else ():
            if isinstance(record, dict) and isinstance(version := record.get("version"), str):
                found.setdefault(str(name), set()).add(version)
    return found
