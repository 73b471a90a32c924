"""Words that the sentences of several claims share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from launch.report.claims.effects import EffectEstimate
from launch.report.escaping import signed


def told(outcomes: Sequence[EffectEstimate]) -> str:
    """`deception (+0.20 [+0.13, +0.26]) and hidden gap (...)`."""
    return joined(f"{outcome.label} ({number(outcome)})" for outcome in outcomes)


def joined(parts: Iterable[str], last: str = "and") -> str:
    """`a, b and c`."""
    listed = list(parts)
    return f" {last} ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]]))


def number(outcome: EffectEstimate) -> str:
    return signed(*outcome.interval[:3], digits=2)
