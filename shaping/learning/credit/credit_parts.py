"""What each intervention of an arm adds to the credit, by name: its cost, and what its `credit` hook changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from envs.episode import Episode
from shaping.intervention import Intervention

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class CreditPart:
    """The part of one intervention in the credit of an update."""

    name: str
    """Its class; a second one of that class in the arm is called `Class-2`."""
    added: Array
    """Mean over the loss tokens of what it adds to advantage x weight, shape [episodes]."""
    size: float
    """Sum over the loss tokens of |what it adds|."""
    whole: float
    """Sum over the loss tokens of |the rewards' advantage|."""

    @property
    def share(self) -> float | None:
        """What it adds, as a share of the rewards' advantage; None where that is 0."""
        return self.size / self.whole if self.whole else None

    def among(self, places: Sequence[int] | NDArray[np.int64], episodes: int) -> CreditPart:
        """The same part among so many episodes, of which it is about those at `places`; to the others it adds 0."""
        added = np.zeros(episodes)
        added[list(places)] = self.added
        return replace(self, added=added)


@dataclass(slots=True)
class PartsOfCredit:
    """Collects the parts while the credit is assigned. What an intervention does not touch costs nothing."""

    episodes: Sequence[Episode]
    rewards: Sequence[Array]
    """Advantages of the rewards, an array [tokens] per episode."""
    _added: dict[int, list[Array]] = field(default_factory=dict)

    def add(self, place: int, before: Sequence[Array], after: Sequence[Array]) -> None:
        """The intervention at this place of the arm turned `before` into `after`, arrays [tokens] per episode."""
        known = self._added.get(place)
        change = [now - then for then, now in zip(before, after, strict=True)]
        self._added[place] = change if known is None else [a + b for a, b in zip(known, change, strict=True)]

    def result(self, interventions: Sequence[Intervention]) -> tuple[CreditPart, ...]:
        """A part for every intervention, in order."""
        inside = [episode.loss_mask for episode in self.episodes]
        whole = sum(float(np.abs(a[m]).sum()) for a, m in zip(self.rewards, inside, strict=True))
        parts = []
        for place, name in enumerate(names_of(interventions)):
            added = self._added.get(place)
            if added is None:
                parts.append(CreditPart(name, np.zeros(len(inside)), 0.0, whole))
                continue
            means = [float(a[m].mean()) if m.any() else 0.0 for a, m in zip(added, inside, strict=True)]
            size = sum(float(np.abs(a[m]).sum()) for a, m in zip(added, inside, strict=True))
            parts.append(CreditPart(name, np.array(means), size, whole))
        return tuple(parts)


def names_of(interventions: Sequence[Intervention]) -> list[str]:
    """What metrics call the interventions of an arm: their classes, numbered from the second of a class on."""
    seen: Counter[str] = Counter()
    names = []
    for intervention in interventions:
        name = type(intervention).__name__
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return names
