"""Did the controls come out as they must? A claim whose controls failed proves nothing, whatever its numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from launch.report.claims.base import Claim
from launch.report.claims.verdict import Verdict


def with_controls(claims: Sequence[Claim], verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts, each with the controls that its claim names and those of them that failed."""
    named = {claim.id: claim.controls for claim in claims}
    return [_checked(verdict, named[verdict.claim], verdicts) for verdict in verdicts]


def _checked(verdict: Verdict, controls: Sequence[str], verdicts: Sequence[Verdict]) -> Verdict:
    failed = [name for name in controls if not all(found.behaved for found in _at(name, verdict.point, verdicts))]
    said = [
        f"control {name} was {found.verdict} and must be {found.must}"
        for name in failed
        for found in _at(name, verdict.point, verdicts)
        if not found.behaved
    ]
    notes = (*verdict.notes, *dict.fromkeys(said))
    return replace(verdict, controls=tuple(controls), controls_failed=tuple(failed), notes=notes)


def _at(claim: str, point: str, verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts of a claim at this point of the axes; at all points, if it is not judged at this one."""
    own = [verdict for verdict in verdicts if verdict.claim == claim]
    return [verdict for verdict in own if verdict.point == point] or own
