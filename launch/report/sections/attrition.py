"""What became of every training episode and of every run that the study asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.report.load import Missing
from launch.report.markdown import blocks, bullets, table
from launch.report.results import ArmView, Results
from launch.report.sections.base import Section

COUNTS = ("episodes", "trained", "filtered", "failed")


@dataclass(frozen=True)
class ArmAttrition:
    """Of one arm: complete and planned runs, episodes by what became of them and by how they ended."""

    arm: ArmView
    planned: int
    counts: Mapping[str, int]
    status: Mapping[str, int]


@dataclass(frozen=True)
class Losses:
    """All arms, and the runs that are missing."""

    counts: Sequence[str]
    arms: Sequence[ArmAttrition]
    missing: Sequence[Missing]


class Attrition(Section):
    """Episodes that were trained on, filtered or failed, and missing runs with the reason."""

    title = "Attrition"
    position = 70

    def compute(self, results: Results) -> Losses:
        return Losses(COUNTS, [_of_arm(results, arm) for arm in results.arms.values()], results.study.missing)

    def markdown(self, content: Losses) -> str:
        rows = [
            (
                found.arm.title,
                f"{found.arm.seeds} of {found.planned}",
                *[str(found.counts[name]) for name in content.counts],
                ", ".join(f"{how.replace('_', ' ')} {n}" for how, n in found.status.items()),
            )
            for found in content.arms
        ]
        return blocks(
            table(("arm", "runs complete", *content.counts, "how episodes ended"), rows),
            "Runs that are missing from every number above:" if content.missing else "No run is missing.",
            bullets(f"{missing.arm}, seed {missing.seed}: {missing.reason}" for missing in content.missing),
        )


def _of_arm(results: Results, arm: ArmView) -> ArmAttrition:
    counts, status = dict.fromkeys(COUNTS, 0), dict[str, int]()
    for run in results.study.of(arm.name):
        found = run.result.get("attrition") or {}
        for name in COUNTS:
            counts[name] += int(found.get(name) or 0)
        for name, n in (found.get("status") or {}).items():
            status[str(name)] = status.get(str(name), 0) + int(n)
    planned = arm.seeds + sum(missing.arm == arm.name for missing in results.study.missing)
    return ArmAttrition(arm, planned, counts, dict(sorted(status.items())))
