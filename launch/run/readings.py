"""Metrics of training episodes that the interventions themselves report."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from envs.episode import Episode
from shaping.intervention import Intervention

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def intervention_names(interventions: Sequence[Intervention]) -> list[str]:
    """A unique name for each: its class in snake case, with `.1`, `.2` where several have one class name."""
    names = [_WORDS.sub("_", type(intervention).__name__).lower() for intervention in interventions]
    total, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}.{seen[name]}" if total[name] > 1 else name)
    return unique


def readings(interventions: Sequence[Intervention], episodes: Sequence[Episode]) -> dict[str, float]:
    """`readings/<intervention>/<reading>`: mean per episode of the sum over turns.

    Interventions see redacted episodes unless they declare `oracle`.
    """
    totals: dict[str, float] = defaultdict(float)
    for name, intervention in zip(intervention_names(interventions), interventions, strict=True):
        for episode in episodes:
            shown = episode if intervention.oracle else episode.redacted()
            for reading, values in intervention.readings(shown).items():
                totals[f"readings/{name}/{reading}"] += float(np.sum(values))
    return {name: total / len(episodes) for name, total in totals.items()}
