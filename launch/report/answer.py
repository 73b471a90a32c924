"""The verdicts in plain language: every claim brings its own sentence, which is built from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from launch.report.claims.verdict import Verdict

NO_CLAIMS = "This study makes no claims, so there are no verdicts. The tables hold what was measured."


def answer(verdicts: Sequence[Verdict]) -> str:
    """One line per claim, in one block for each point of the study's axes; the last line explains the brackets."""
    if not verdicts:
        return NO_CLAIMS
    points = list(dict.fromkeys(verdict.point for verdict in verdicts))
    lines = []
    for point in points:
        lines += [f"At {point}:"] if point else []
        lines += [verdict.sentence for verdict in verdicts if verdict.point == point]
    return "\n".join(filter(None, [*lines, _brackets(verdicts)]))


def _brackets(verdicts: Sequence[Verdict]) -> str:
    """What the bracketed numbers are."""
    decisive = [o for v in verdicts for o in v.outcomes if o.decides]
    if not decisive:
        return ""
    levels = " or ".join(f"{100 * level:.3g}%" for level in sorted({o.level for o in decisive}))
    counts = sorted({o.interval.n for o in decisive})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
    return f"In brackets: {levels} intervals of the difference, over {seeds} replicates."


def verdict_lines(document: Mapping[str, Any]) -> list[str]:
    """One line per verdict of verdicts.json, or one that says why there is none."""
    lines = [] if document["verdicts"] else ["no verdicts: the study makes no claims"]
    for verdict in document["verdicts"]:
        point = f" [{verdict['point']}]" if verdict.get("point") else ""
        doubt = f" (controls failed: {', '.join(verdict['controls_failed'])})" if verdict.get("controls_failed") else ""
        lines.append(f"{verdict['claim']}{point} {verdict['verdict']}{doubt}: {verdict['statement']}")
    return lines
