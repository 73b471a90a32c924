"""Words that the sentences of several claims share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from launch.report.claims.effects import EffectEstimate
from launch.report.escaping import signed


def told(outcomes: Sequence[EffectEstimate], among: Sequence[EffectEstimate] = ()) -> str:
    """`deception (+0.20 [+0.13, +0.26]) and hidden gap (...)`; with the contrast, where there is more than one."""
    several = len({outcome.contrast for outcome in among or outcomes}) > 1
    return joined(
        f"{outcome.label} ({f'{outcome.contrast}: ' if several else ''}{number(outcome)})" for outcome in outcomes
    )


def turned_note(outcomes: Iterable[EffectEstimate]) -> tuple[str, ...]:
    """One note: `replicates that turned: mask - unshaped 0 of 12 (excludes a share of 0.22), ...`; none without any."""
    listed = []
    for outcome in outcomes:
        if (found := outcome.turned) is not None:
            share = f"a share of {found.excluded if found.none else found.upper:.2f} or more is excluded"
            listed.append(
                f"{outcome.label}, {outcome.contrast}: {found.count} of {found.n}"
                + (f" ({share})" if found.room else " (the metric has no room for one)")
            )
    return (f"replicates that turned: {'; '.join(listed)}",) if listed else ()


def joined(parts: Iterable[str], last: str = "and") -> str:
    """`a, b and c`."""
    listed = list(parts)
    return f" {last} ".join(filter(None, [", ".join(listed[:-1]), *listed[-1:]]))


def number(outcome: EffectEstimate) -> str:
    return signed(*outcome.interval[:3], digits=2)


def least_p(outcomes: Iterable[EffectEstimate]) -> float:
    """The smallest p of these outcomes; nan without any."""
    return min((o.p for o in outcomes if not math.isnan(o.p)), default=math.nan)
