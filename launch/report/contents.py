"""What a report says, computed once and then written as HTML and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launch.report.answer import answer
from launch.report.claims.judge import Verdict, judge_study
from launch.report.grids import GridView, grids
from launch.report.load import Missing, Study
from launch.report.metrics import MAIN, OTHER, PER_WORLD, Metric, monitor_of
from launch.report.table import NOTHING, Interval, Values, compare, summarise, values_of, withheld
from launch.report.transcripts import Read, TranscriptView, choose, rule_text

COUNTS = ("episodes", "trained", "filtered", "failed")


@dataclass(frozen=True)
class Attrition:
    """What became of an arm's training episodes and runs."""

    arm: str
    complete: int
    planned: int
    counts: Mapping[str, int]
    status: Mapping[str, int]


@dataclass(frozen=True)
class Contents:
    """Everything a page needs; `cells` and `compared` are arm -> metric -> interval."""

    study: Study
    delta: float
    values: Values
    cells: Mapping[str, Mapping[str, Interval]]
    compared: Mapping[str, Mapping[str, Interval]]
    verdicts: Sequence[Verdict]
    answer: str
    attrition: Sequence[Attrition]
    missing: Sequence[Missing]
    withheld: Mapping[str, tuple[str, ...]]
    transcripts: Sequence[TranscriptView]
    transcript_problems: Sequence[str]
    transcript_rule: str
    grids: Sequence[GridView] = ()

    @property
    def shown(self) -> list[str]:
        """The arms with at least one complete run."""
        return [arm for arm in self.study.arms if self.study.of(arm)]

    def cell(self, arm: str, metric: str) -> Interval:
        return self.cells.get(arm, {}).get(metric, NOTHING)

    def difference(self, arm: str, metric: str) -> Interval:
        return self.compared.get(arm, {}).get(metric, NOTHING)

    @property
    def points(self) -> dict[str, list[Verdict]]:
        """The verdicts of every point of the axes, in the order of the study."""
        found: dict[str, list[Verdict]] = {}
        for verdict in self.verdicts:
            found.setdefault(verdict.point, []).append(verdict)
        return found

    @property
    def monitors(self) -> list[Metric]:
        """Readings of monitors, which are no part of the fixed table."""
        names = sorted({name for metrics in self.cells.values() for name in metrics if monitor_of(name)})
        return [Metric(name, _monitor_label(name), "reading of a monitor") for name in names]

    @property
    def other(self) -> list[Metric]:
        """Metrics beyond the main table that at least one arm has."""
        return [m for m in OTHER if any(m.name in metrics for metrics in self.cells.values())]

    @property
    def main(self) -> tuple[Metric, ...]:
        return MAIN

    @property
    def per_world(self) -> tuple[Metric, ...]:
        return PER_WORLD

    @property
    def versions(self) -> dict[str, Any]:
        """Versions that differ between runs are listed side by side."""
        found: dict[str, set[str]] = {}
        for run in self.study.runs:
            recorded = run.record.get("versions") or {}
            flat = {**recorded, **(recorded.get("packages") or {})} if isinstance(recorded, dict) else {}
            for name, value in flat.items():
                if name != "packages" and value is not None:
                    found.setdefault(str(name), set()).add(str(value))
        return {name: " and ".join(sorted(values)) for name, values in found.items()}

    @property
    def updates(self) -> str:
        counts = sorted({len(run.train) for run in self.study.runs})
        return " or ".join(map(str, counts))


def gather(study: Study, delta: float, read: Read) -> Contents:
    """Compute everything. `read` opens an episode file."""
    values = values_of(study)
    verdicts = judge_study(study, values, delta)
    transcripts, problems = choose(study, read)
    return Contents(
        study=study,
        delta=delta,
        values=values,
        cells=summarise(values),
        compared=compare(study, values),
        verdicts=verdicts,
        answer=answer(verdicts),
        attrition=[_attrition(study, arm) for arm in study.arms],
        missing=study.missing,
        withheld=withheld(study),
        transcripts=transcripts,
        transcript_problems=problems,
        transcript_rule=rule_text(study),
        grids=grids(study),
    )


def read_stored(path: Path) -> Sequence[Any]:
    """Episodes of a Parquet file."""
    from envs.store import read_episodes

    return read_episodes(path)


def _attrition(study: Study, arm: str) -> Attrition:
    runs = study.of(arm)
    counts = dict.fromkeys(COUNTS, 0)
    status: dict[str, int] = {}
    for run in runs:
        found = run.result.get("attrition") or {}
        for name in COUNTS:
            counts[name] += int(found.get(name) or 0)
        for name, n in (found.get("status") or {}).items():
            status[str(name)] = status.get(str(name), 0) + int(n)
    planned = len(runs) + sum(missing.arm == arm for missing in study.missing)
    return Attrition(arm, len(runs), planned, counts, dict(sorted(status.items())))


def _monitor_label(name: str) -> str:
    """`claim check deception recall` for `monitor.claim_check.deception.recall`: words that can wrap in a head."""
    return name.removeprefix("monitor.").replace(".", " ").replace("_", " ")
