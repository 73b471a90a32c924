"""The claims of a study, judged at every point of its axes by rules that were fixed before any number was seen.

Several metrics may each decide a claim, so that their intervals are widened (Bonferroni: 98.33% for three).
"""

from __future__ import annotations

from collections.abc import Sequence

from launch.config.claims import build_claims
from launch.report.claims.base import Claim
from launch.report.claims.table import Table
from launch.report.claims.verdict import Verdict, as_json
from launch.report.load import ArmInfo, Study
from launch.report.table import Values

__all__ = ["Verdict", "as_json", "judge_study"]


def judge_study(study: Study, values: Values, delta: float) -> list[Verdict]:
    """All claims at every point of the axes; those that compare across an axis once for each point of the others."""
    claims: list[Claim] = build_claims(study.config)
    within = [claim for claim in claims if not claim.axes]
    verdicts = [claim.judge(table) for table in tables(study, values, delta) for claim in within]
    across = [claim for claim in claims if claim.axes]
    return verdicts + [claim.judge(table) for claim in across for table in tables(study, values, delta, claim.axes)]


def tables(study: Study, values: Values, delta: float, across: Sequence[str] = ()) -> list[Table]:
    """One table for each point at which there is a reference arm; points that differ in `across` alone share one."""
    groups: dict[str, list[ArmInfo]] = {}
    for reference in study.references:
        groups.setdefault(_point(reference, across), [])
    for arm in study.arms.values():
        if reference_arm := study.reference(arm):
            groups[_point(reference_arm, across)].append(arm)
    return [Table(values, arms, delta, point) for point, arms in groups.items()]


def _point(reference: ArmInfo, across: Sequence[str]) -> str:
    return ", ".join(f"{axis} = {value}" for axis, value in reference.sweep_point.items() if axis not in across)
