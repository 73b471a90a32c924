"""Metrics of training episodes that the interventions themselves report."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence

from envs.calls import call
from envs.episode import Episode
from envs.per_turn import per_turn
from envs.text import valid
from shaping.hooks import InterventionError
from shaping.intervention import Intervention

_WORDS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def intervention_names(interventions: Sequence[Intervention]) -> list[str]:
    """A unique name for each: its class in snake case, with `.1`, `.2` where several have one class name."""
    names = [valid(_WORDS.sub("_", type(intervention).__name__)).lower() for intervention in interventions]
    total, seen = Counter(names), Counter[str]()
    unique = []
    for name in names:
        seen[name] += 1
        unique.append(f"{name}.{seen[name]}" if total[name] > 1 else name)
    return unique


def readings(
    interventions: Sequence[Intervention],
    episodes: Sequence[Episode],
    concerns: Callable[[Intervention, Episode], bool] = lambda *_: True,
) -> dict[str, float]:
    """`readings/<intervention>/<reading>`: mean per episode that concerns it of the sum over turns.

    Interventions see redacted episodes unless they declare `oracle`. Raises `InterventionError` that names class and
    reading if one is not a finite number per turn.
    """
    found: dict[str, float] = {}
    for name, intervention in zip(intervention_names(interventions), interventions, strict=True):
        totals: dict[str, float] = defaultdict(float)
        own = [episode for episode in episodes if concerns(intervention, episode)]
        for episode in own:
            for reading, total in _sums(intervention, episode).items():
                totals[f"readings/{name}/{reading}"] += total
        found |= {reading: total / len(own) for reading, total in totals.items()}
    return found


def _sums(intervention: Intervention, episode: Episode) -> dict[str, float]:
    """The sum over turns of each reading of one episode."""
    shown, who = (
        episode if intervention.reads_truth else episode.redacted(),
        f"{type(intervention).__name__}.readings()",
    )
    answer = call(InterventionError, intervention, "readings", shown)
    if not isinstance(answer, Mapping):
        raise InterventionError(f"{who} returned {type(answer).__name__}; it must return a mapping of name to numbers")
    sums = {}
    for reading, values in answer.items():
        try:
            sums[valid(str(reading))] = float(per_turn(values, len(episode.turns), "readings").sum())
        except ValueError as error:
            raise InterventionError(f"{who}, {reading!r}: {error}") from None
    return sums
