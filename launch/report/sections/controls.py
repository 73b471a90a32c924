"""Did the controls come out as they must? If not, nothing else in the study proves anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from launch.report.claims.verdict import Verdict
from launch.report.markdown import blocks, line, table
from launch.report.results import Results
from launch.report.sections.base import Section

HEAD = ("control", "claim", "must be", "came out", "as it must")
NONE = "No claim of this study is a control, so that nothing here shows that its instrument can say yes and no."


@dataclass(frozen=True)
class ControlTable:
    """The controls at every point of the axes, and what they mean for the rest of the report."""

    said: str
    behaved: bool
    controls: Sequence[Verdict]


class Controls(Section):
    """Positive controls that must be found, negative ones that must not."""

    title = "Controls"
    position = 2
    css_class = "controls"

    def compute(self, results: Results) -> ControlTable | None:
        if not results.verdicts:
            return None
        controls = [verdict for verdict in results.verdicts if verdict.must]
        failed = [verdict for verdict in controls if not verdict.behaved]
        return ControlTable(_said(controls, failed), not failed, controls)

    def markdown(self, content: ControlTable) -> str:
        rows = [(v.claim, v.statement, str(v.must), told(v), "yes" if v.behaved else "NO") for v in content.controls]
        return blocks(line(content.said, len(content.said)), table(HEAD, rows) if rows else "")


def told(verdict: Verdict) -> str:
    """The verdict of a control, with the reason if it was not tested, and its point of the axes."""
    point = f" ({verdict.point})" if verdict.point else ""
    return f"{verdict.verdict}{point}" + (f": {verdict.reason}" if verdict.reason else "")


def _said(controls: Sequence[Verdict], failed: Sequence[Verdict]) -> str:
    if not controls:
        return NONE
    if not failed:
        return "The control came out as it must." if len(controls) == 1 else "All controls came out as they must."
    names = ", ".join(dict.fromkeys(verdict.claim for verdict in failed))
    return (
        f"{len(failed)} of {len(controls)} controls did not come out as they must ({names}). Until it is known why, "
        "the rest of this report proves nothing, and is shown in grey."
    )
