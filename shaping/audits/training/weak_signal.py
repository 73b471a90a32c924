"""Runs whose training could teach next to nothing: most turns say no command, or most groups all earn the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from shaping.audits.metrics import mean_over_updates

INVALID: Final = "rate/invalid"
SAME: Final = "zero_variance"
MOST: Final = 0.5
"""Share of the turns, or of the groups, above which a run is told of."""
EARLY: Final = 5
"""Updates after which it is told while the run trains."""
SAID: Final[Mapping[str, str]] = {
    INVALID: "{share} of the turns said no valid command: has the model met this world?",
    SAME: "{share} of the groups earned the same in all episodes, so that they taught nothing",
}

Rows = Sequence[Mapping[str, Any]]
"""Rows of metrics.jsonl, one an update."""


def weak_shares(rows: Rows) -> dict[str, float]:
    """Column -> its mean over the updates, for the columns in which it is above `MOST`. Rows may lack a column."""
    means = {column: mean_over_updates(column)(rows) or 0.0 for column in SAID}
    return {column: mean for column, mean in means.items() if mean > MOST}


def weak_signals(rows: Rows) -> dict[str, str]:
    """Column -> what is wrong, for the columns of `weak_shares`."""
    return {column: SAID[column].format(share=f"{share:.0%}") for column, share in weak_shares(rows).items()}


def first_quarter_varied(rows: Rows) -> bool:
    """Did any group of the first quarter of the updates (at least one) earn different rewards?

    True where rows do not say: stages on given answers have no groups.
    """
    shares = [row[SAME] for row in rows[: math.ceil(len(rows) / 4)] if isinstance(row.get(SAME), int | float)]
    return not shares or min(shares) < 1.0


class WeakSignals:
    """Looks at the updates of a run one by one. Each weakness is told once."""

    def __init__(self, updates: int, rows: Iterable[Mapping[str, Any]] = ()) -> None:
        self._due = min(EARLY, updates)
        self._rows: list[Mapping[str, Any]] = []
        self._told: set[str] = set()
        for row in rows:
            self.see(row)

    def see(self, row: Mapping[str, Any]) -> list[str]:
        """Take in the row of the next update; what is wrong since then with the last `EARLY` of them."""
        self._rows = [*self._rows[1 - self._due :], row] if self._due > 1 else [row]
        if len(self._rows) < self._due:
            return []
        found = {column: said for column, said in weak_signals(self._rows).items() if column not in self._told}
        self._told |= found.keys()
        return list(found.values())
