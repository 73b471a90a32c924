"""The ledger of a run: every episode that was started, and how it ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from envs.episode import Episode
from launch.errors import UserError


class RunError(UserError):
    """A run cannot go on; the message says why and what to do."""


@dataclass(slots=True)
class Ledger:
    """Every started episode ends as trained, stale, filtered or failed; the sums match."""

    episodes: int = 0
    trained: int = 0
    stale: int = 0
    filtered: int = 0
    failed: int = 0
    status: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "episodes": self.episodes,
            "trained": self.trained,
            "stale": self.stale,
            "filtered": self.filtered,
            "failed": self.failed,
            "status": dict(self.status),
        }

    def settle(
        self, update: int, played: Sequence[Episode], late: Sequence[Episode]
    ) -> tuple[list[Episode], dict[str, int]]:
        """Count what became of an update's episodes. Returns those to learn from, and the counts.

        Failed episodes are dropped, and so are groups with fewer than two episodes left, which have no baseline. Raises
        `RunError` if more than half of the episodes failed, or none is left.
        """
        sound = [e for e in played if not e.status.is_error and e.turns]
        sizes = Counter(e.group for e in sound)
        usable = [e for e in sound if sizes[e.group] > 1]
        counts = {
            "episodes": len(played) + len(late),
            "trained": len(usable),
            "stale": len(late),
            "filtered": len(sound) - len(usable),
            "failed": len(played) - len(sound),
        }
        self.add(counts, [*played, *late])
        if counts["failed"] > len(played) // 2 or not usable:
            first = next((e.error for e in played if e.error), "no episode had a turn")
            raise RunError(
                f"{counts['failed']} of {len(played)} episodes failed in update {update}; the first error: {first}. "
                "Check the world with its options (shaping list), or raise train.step_timeout if it is slow"
            )
        return usable, counts

    def add(self, counts: Mapping[str, int], played: Iterable[Episode]) -> None:
        """The counts of one update, and its episodes."""
        for name, number in counts.items():
            setattr(self, name, getattr(self, name) + number)
        self.status.update(e.status.value for e in played)

    def check(self, under_way: int) -> None:
        """Raises `RunError` where episodes were lost, or counted twice."""
        ended = self.trained + self.stale + self.filtered + self.failed
        if ended != self.episodes or self.status.total() != self.episodes or under_way:
            raise RunError(
                f"the ledger does not sum: {self.as_dict()}, with {under_way} groups still under way. Its numbers "
                "cannot be trusted; please report this with the run's log"
            )
