"""What claims look at: the numbers of the arms at one point of the study's axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from launch.report.claims.arms import ArmSelector
from launch.report.claims.effects import EffectEstimate, pooled
from launch.report.load import ArmInfo
from launch.report.table import Values

FEW_SEEDS = 3


@dataclass(frozen=True)
class Table:
    """Values (arm -> metric -> seed -> value), the arms at one point, and the smallest effect of interest."""

    values: Values
    arms: Sequence[ArmInfo]
    delta: float
    point: str = ""

    def select(self, selector: ArmSelector) -> list[str]:
        """Names of the arms that are meant and have a complete run."""
        return [arm.name for arm in self.found(selector)]

    def at(self, axis: str, value: Any, *, or_without: bool = False) -> Table:
        """The table of the arms at one value of an axis; `or_without`: and of those that the axis does not multiply."""
        arms = [a for a in self.arms if (a.sweep_point[axis] == value if axis in a.sweep_point else or_without)]
        return Table(self.values, arms, self.delta, self.point)

    def found(self, selector: ArmSelector) -> list[ArmInfo]:
        """The arms that are meant and have a complete run."""
        return [arm for arm in self.arms if selector.fits(arm) and self.values.get(arm.name)]

    def pooled(self, arms: Sequence[str], metric: str) -> dict[int, float]:
        """Seed -> mean over the arms, for every seed in which all of them have the metric."""
        return pooled(self.values, arms, metric)

    def title(self, selector: ArmSelector) -> str:
        """What a table's head calls the arms: `unshaped`, `constraint arms`."""
        return selector.title(self.found(selector) or [arm for arm in self.arms if selector.fits(arm)])

    def phrase(self, selector: ArmSelector) -> str:
        """What a sentence calls the arms: `the unshaped arm`, `constraint arms`."""
        return selector.phrase(self.found(selector) or [arm for arm in self.arms if selector.fits(arm)])

    def mean_of(self, selector: ArmSelector) -> str:
        """The pool of the arms: `mean of constraint arms`, or the name of a single arm."""
        single = len(self.select(selector)) == 1 and (selector.arms or selector.role == "reference")
        return self.title(selector) if single else f"mean of {self.title(selector)}"

    def notes(self, used: Iterable[str], outcomes: Sequence[EffectEstimate]) -> tuple[str, ...]:
        """What a reader must know about these numbers."""
        used = list(used)
        notes = []
        fewest = min((o.interval.n for o in outcomes if o.decides), default=0)
        if fewest < FEW_SEEDS:
            notes.append(f"an interval rests on fewer than {FEW_SEEDS} seeds (n = {fewest})")
        seeds = {s for metrics in self.values.values() for by_seed in metrics.values() for s in by_seed}
        lost = {s for arm in used for s in seeds - set(self.values[arm].get("proxy_reward", {}))}
        if lost:
            notes.append(f"seeds left out because a run is missing: {', '.join(map(str, sorted(lost)))}")
        if oracles := [arm.title for arm in self.arms if arm.oracle and arm.name in used]:
            notes.append(f"includes arms that read ground truth: {', '.join(oracles)}")
        return tuple(notes)
