"""The claims of a study, judged at every point of its axes by rules that were fixed before any number was seen."""

from __future__ import annotations

from collections.abc import Sequence, Set

from launch.config.claims import build_claims
from launch.report.claims.base import Claim, asked
from launch.report.claims.controls import with_controls
from launch.report.claims.evidence import evidence_of, look_of
from launch.report.claims.table import Table
from launch.report.claims.verdict import Verdict, as_json
from launch.report.files.load import ArmInfo, Study
from launch.report.table import Values

__all__ = ["Verdict", "as_json", "judge_study"]


def judge_study(study: Study, values: Values, margin: float, look: int | None = None) -> list[Verdict]:
    """All claims at every point of the axes; those that compare across an axis once for each point of the others.

    `look`: of a study that is judged in steps, after how many replicates; None: the last look that was taken.
    """
    claims: list[Claim] = build_claims(study.config)
    plain = tables(study, values, margin, look=look)
    places = {c.id: tables(study, values, margin, c.axes, look) if c.axes else plain for c in claims}
    # at points for which it plans no such arms a study claims nothing; one without any must still be told of
    held = {c.id: [t for t in places[c.id] if asked(c, "holds_at", bool, t)] or places[c.id][:1] for c in claims}
    within = [(claim, table) for table in plain for claim in claims if not claim.axes and table in held[claim.id]]
    across = [(claim, table) for claim in claims if claim.axes for table in held[claim.id]]
    verdicts = [claim.judge(table) for claim, table in [*within, *across]]
    return with_controls(claims, verdicts)


def tables(
    study: Study, values: Values, margin: float, across: Sequence[str] = (), look: int | None = None
) -> list[Table]:
    """One table for each point at which there is a reference arm; points that differ in `across` alone share one."""
    look = look_of(study) if look is None else look
    if look is not None:
        values = _until(values, set(study.config.seed_list[:look]))
    groups: dict[str, list[ArmInfo]] = {}
    for reference in study.references:
        groups.setdefault(_point(reference, across), [])
    for arm in study.arms.values():
        if reference_arm := study.reference(arm):
            groups[_point(reference_arm, across)].append(arm)
    evidence = evidence_of(study, look)
    return [Table(values, arms, margin, point, evidence) for point, arms in groups.items()]


def _until(values: Values, seeds: Set[int]) -> Values:
    return {
        arm: {metric: {s: v for s, v in column.items() if s in seeds} for metric, column in metrics.items()}
        for arm, metrics in values.items()
    }


def _point(reference: ArmInfo, across: Sequence[str]) -> str:
    return ", ".join(f"{axis} = {value}" for axis, value in reference.sweep_point.items() if axis not in across)
