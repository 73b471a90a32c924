"""Subjects: can the models that runs start from read prompts and cues at all, and do they lie or only react?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from launch.check_model.table import Row, rows_of
from launch.report.files.load import Run
from launch.report.markdown import blocks, bullets, inline, table
from launch.report.results import Results
from launch.report.sections.base import Section
from shaping.organisms.gates.record import GATES, Gate

ABOUT = (
    "Gates of the models before any training, under prompts held out from every corpus. A claim that needs a gate that "
    "its subject failed is not tested. A gate passes by its value; the interval says how sure that is."
)
UNKNOWN = "gates of this model are not known: run shaping check-model"
HEAD = ("subject", "world", "gate", "measured", "value [95% interval]", "needed", "result")


@dataclass(frozen=True)
class SubjectGates:
    """One model that runs started from."""

    name: str
    rows: Sequence[Row]
    """Empty if nothing is known of it."""


@dataclass(frozen=True)
class Known:
    """All subjects of a study."""

    about: str
    head: Sequence[str]
    subjects: Sequence[SubjectGates]
    unknown: Sequence[str]
    """A line for each subject of which nothing is known."""


class Subjects(Section):
    """The gates M1 to M6 of the models that runs start from, by world."""

    title = "Subjects"
    position = 57

    def compute(self, results: Results) -> Known | None:
        if not results.study.runs:
            return None
        subjects = [SubjectGates(name, _rows(runs)) for name, runs in _by_subject(results.study.runs)]
        unknown = [f"{each.name}: {UNKNOWN}" for each in subjects if not each.rows]
        return Known(ABOUT, HEAD, [each for each in subjects if each.rows], unknown)

    def markdown(self, content: Known) -> str:
        rows = [cells_of(each, row) for each in content.subjects for row in each.rows]
        return blocks(
            inline(content.about) if rows else "", table(content.head, rows) if rows else "", bullets(content.unknown)
        )


def cells_of(subject: SubjectGates, row: Row) -> tuple[str, ...]:
    """A line of the table."""
    gate = f"{row.gate} {row.meaning}"
    return subject.name, row.world, gate, row.measured, row.value, row.needed, row.result


def _by_subject(runs: Iterable[Run]) -> list[tuple[str, list[Run]]]:
    found: dict[str, list[Run]] = {}
    for run in runs:
        found.setdefault(run.subject or "the start model", []).append(run)
    return sorted(found.items())


def _rows(runs: Iterable[Run]) -> list[Row]:
    """Of the last run that knows anything: gates may have been measured while the study ran."""
    known = [rows for run in runs if (rows := _of_result(run.result.get("gates")))]
    return known[-1] if known else []


def _of_result(found: Any) -> list[Row]:
    """What result.json holds, as far as it is what this version writes."""
    if not isinstance(found, dict):
        return []
    worlds = [(str(world), gates) for world, gates in sorted(found.items()) if isinstance(gates, dict)]
    return [
        row
        for world, gates in worlds
        for name in GATES
        if (gate := _gate(gates.get(name))) is not None
        for row in rows_of(world, name, gate)
    ]


def _gate(row: Any) -> Gate | None:
    if not isinstance(row, dict):
        return None
    try:
        return Gate.model_validate_json(json.dumps({name: row.get(name) for name in ("status", "why", "parts")}))
    except ValueError:
        return None
