"""What became of every training episode and of every run that the study asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from launch.report.files.load import Missing, Run
from launch.report.markdown import blocks, bullets, table
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section
from launch.run.evaluation.losses import cell_name, flagged

COUNTS = ("episodes", "trained", "screened", "filtered", "stale", "uninformative", "unused", "failed")
EVALUATION = ("episodes", "failed", "no_turns")
CELL_HEAD = ("arm", "evaluation cell", "episodes", "failed", "without a turn")
FLAG = "Do not trust the numbers of these evaluation cells, which lost more than 5 % of their episodes"


@dataclass(frozen=True)
class ArmAttrition:
    """Of one arm: complete and planned runs, episodes by what became of them and by how they ended."""

    arm: ArmView
    planned: int
    stopped: int
    """Runs that `train.stop_at_reward` ended early."""
    counts: Mapping[str, int]
    status: Mapping[str, int]

    @property
    def runs(self) -> str:
        """How many of the planned runs are complete, and how many of these ended early."""
        early = f", {self.stopped} of them stopped early" if self.stopped else ""
        return f"{self.arm.seeds} of {self.planned}{early}"


@dataclass(frozen=True)
class CellAttrition:
    """Of one arm and one cell of the evaluation: its episodes, those that failed, and those without a turn."""

    arm: ArmView
    cell: str
    counts: Sequence[int]


@dataclass(frozen=True)
class Losses:
    """All arms, and the runs that are missing."""

    counts: Sequence[str]
    arms: Sequence[ArmAttrition]
    cells: Sequence[CellAttrition]
    flagged: Sequence[str]
    """Evaluation cells of runs that lost so many episodes that their numbers are not to be trusted."""
    missing: Sequence[Missing]


class Attrition(Section):
    """Episodes that were trained on, filtered or failed, and missing runs with the reason."""

    title = "Attrition"
    position = 70

    def compute(self, results: Results) -> Losses:
        arms = [_of_arm(results, arm) for arm in results.arms.values()]
        screens = any(arm.counts["screened"] for arm in arms)  # most arms never do
        counts = [name for name in COUNTS if screens or name != "screened"]
        return Losses(counts, arms, _cells(results), _flagged(results), results.study.missing)

    def markdown(self, content: Losses) -> str:
        rows = [
            (
                found.arm.title,
                found.runs,
                *[str(found.counts[name]) for name in content.counts],
                ", ".join(f"{how.replace('_', ' ')} {n}" for how, n in found.status.items()),
            )
            for found in content.arms
        ]
        return blocks(
            table(("arm", "runs complete", *content.counts, "how episodes ended"), rows),
            table(CELL_HEAD, [(c.arm.title, c.cell, *map(str, c.counts)) for c in content.cells])
            if content.cells
            else "",
            f"{FLAG}:" if content.flagged else "",
            bullets(content.flagged),
            "Runs that are missing from every number above:" if content.missing else "No run is missing.",
            bullets(f"{missing.arm}, seed {missing.seed}: {missing.reason}" for missing in content.missing),
        )


def _cells(results: Results) -> list[CellAttrition]:
    """Cells of the evaluation that lost episodes, summed over the seeds of an arm."""
    found: list[CellAttrition] = []
    for arm in results.arms.values():
        sums: dict[str, Counter[str]] = {}
        for cell in (cell for run in results.study.of(arm.name) for cell in _evaluation(run)):
            sums.setdefault(cell_name(cell), Counter()).update({name: int(cell.get(name, 0)) for name in EVALUATION})
        lost = {name: n for name, n in sums.items() if n["failed"] or n["no_turns"]}
        found += [CellAttrition(arm, name, [n[count] for count in EVALUATION]) for name, n in lost.items()]
    return found


def _flagged(results: Results) -> list[str]:
    runs = results.study.runs
    return [f"{run.arm}, seed {run.seed}: {line}" for run in runs for line in flagged(_evaluation(run))]


def _evaluation(run: Run) -> Sequence[Mapping[str, Any]]:
    return (run.result.get("attrition") or {}).get("evaluation") or []


def _of_arm(results: Results, arm: ArmView) -> ArmAttrition:
    counts, status, stopped = dict.fromkeys(COUNTS, 0), dict[str, int](), 0
    for run in results.study.of(arm.name):
        found = run.result.get("attrition") or {}
        stopped += found.get("stopped_after") is not None
        for name in COUNTS:
            counts[name] += int(found.get(name) or 0)
        for name, n in (found.get("status") or {}).items():
            status[str(name)] = status.get(str(name), 0) + int(n)
    planned = arm.seeds + sum(missing.arm == arm.name for missing in results.study.missing)
    return ArmAttrition(arm, planned, stopped, counts, dict(sorted(status.items())))
