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
    """Every started episode ends as trained, screened, stale, filtered, failed, uninformative or unused.

    The sums match.
    """

    episodes: int = 0
    trained: int = 0
    stale: int = 0
    filtered: int = 0
    failed: int = 0
    uninformative: int = 0
    """Of groups in which nothing varied, which others replaced (`train.refill`)."""
    screened: int = 0
    """Left out of the learning by a constraint (`Constraint.screen`)."""
    unused: int = 0
    """Under way when training stopped early (`train.stop_at_reward`)."""
    stopped_after: int | None = None
    """Updates after which training stopped early."""
    status: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        return {
            "episodes": self.episodes,
            "trained": self.trained,
            "stale": self.stale,
            "filtered": self.filtered,
            "failed": self.failed,
            "uninformative": self.uninformative,
            "screened": self.screened,
            "unused": self.unused,
            "stopped_after": self.stopped_after,
            "status": dict(self.status),
        }

    def settle(
        self, update: int, played: Sequence[Episode], late: Sequence[Episode]
    ) -> tuple[list[Episode], dict[str, int]]:
        """Count what became of an update's episodes. Returns those to learn from, and the counts.

        Failed episodes are dropped, and so are groups with fewer than two episodes left, which have no baseline. Raises
        `RunError` if more than half of the episodes failed, or none is left.
        """
        whole = sound(played)
        sizes = Counter(e.group for e in whole)
        usable = [e for e in whole if sizes[e.group] > 1]
        counts = {
            "episodes": len(played) + len(late),
            "trained": len(usable),
            "stale": len(late),
            "filtered": len(whole) - len(usable),
            "failed": len(played) - len(whole),
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

    def swap(self, counts: dict[str, Any], played: Sequence[Episode], *, taken: int, dropped: int) -> None:
        """Count an extra group in the ledger and in an update's `counts`.

        Args:
            counts: the counts of the update, changed in place.
            played: its episodes, `taken` of which did not fail.
            taken: episodes that could be learned from.
            dropped: episodes that no one learns from: those, or the ones that they replace.
        """
        changes = {
            "episodes": len(played),
            "trained": taken - dropped,
            "uninformative": dropped,
            "failed": len(played) - taken,
        }
        self.add(changes, played)
        for name, number in changes.items():
            counts[name] = counts.get(name, 0) + number

    def screen(self, counts: dict[str, Any], left_out: int) -> None:
        """Count episodes of an update that a constraint left out, in the ledger and in the update's `counts`."""
        changes = {"trained": -left_out, "screened": left_out}
        self.add(changes, ())
        for name, number in changes.items():
            counts[name] = counts.get(name, 0) + number

    def leave(self, played: Sequence[Episode]) -> None:
        """Count episodes that were under way when training stopped."""
        self.add({"episodes": len(played), "unused": len(played)}, played)

    def check(self, under_way: int) -> None:
        """Raises `RunError` where episodes were lost, or counted twice."""
        ended = self.trained + self.screened + self.stale + self.filtered + self.failed
        ended += self.uninformative + self.unused
        if ended != self.episodes or self.status.total() != self.episodes or under_way:
            raise RunError(
                f"the ledger does not sum: {self.as_dict()}, with {under_way} groups still under way. Its numbers "
                "cannot be trusted; please report this with the run's log"
            )


def sound(played: Iterable[Episode]) -> list[Episode]:
    """Episodes that did not fail and had a turn."""
    return [e for e in played if not e.status.is_error and e.turns]
