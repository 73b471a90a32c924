"""What claims look at: the numbers of the arms at one point of the study's axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from launch.report.claims.arms import ArmSelector
from launch.report.claims.effects import Comparison
from launch.report.claims.evidence import Evidence
from launch.report.files.load import ArmInfo
from launch.report.statistics.chances import EPISODES
from launch.report.statistics.estimate import Estimate, contrast
from launch.report.statistics.noise import floor
from launch.report.table import Values, finite, under_same_prompts


@dataclass(frozen=True)
class Table:
    """Values (arm -> metric -> seed -> value), the arms at one point, and the smallest effect of interest."""

    values: Values
    arms: Sequence[ArmInfo]
    margin: float
    point: str = ""
    evidence: Evidence = Evidence()

    def select(self, selector: ArmSelector) -> list[str]:
        """Names of the arms that are meant and have a complete run."""
        return [arm.name for arm in self.found(selector)]

    def at(self, axis: str, value: Any, *, or_without: bool = False) -> Table:
        """The table of the arms at one value of an axis; `or_without`: and of those that the axis does not multiply."""
        arms = [a for a in self.arms if (a.sweep_point[axis] == value if axis in a.sweep_point else or_without)]
        return replace(self, arms=arms)

    def found(self, selector: ArmSelector) -> list[ArmInfo]:
        """The arms that are meant and have a complete run."""
        return [arm for arm in self.arms if selector.fits(arm) and self.values.get(arm.name)]

    @property
    def level(self) -> float:
        """Of intervals: each of their bounds is a test at alpha."""
        return 1 - 2 * self.evidence.alpha

    def column(self, arm: str, metric: str, own: str = "") -> dict[int, float]:
        """Seed -> the metric, where it could be measured; of a reference, under the prompts of the arm `own`."""
        return finite(under_same_prompts(self.values.get(arm, {}), metric, own or arm))

    def estimate(self, compared: Comparison) -> Estimate | None:
        """The contrast of the arms' means, over subjects; None where there is too little to estimate it from."""
        weights, metric = compared.weights, compared.metric
        columns = {arm: self.column(arm, metric, compared.arm) for arm, weight in weights.items() if weight}
        floors = {arm: self.floor(arm, metric) for arm in columns}
        return contrast(columns, weights, self.evidence.subjects, floors)

    def floor(self, arm: str, metric: str) -> float:
        """The least variance of a replicate: that of an evaluation of its size."""
        known = self.evidence.chances.get(arm, {})
        return floor(metric, self.column(arm, metric).values(), known.get(metric, known.get(EPISODES, 0.0)))

    def replicates(self, compared: Comparison) -> int:
        """Replicates of the arm that has the fewest."""
        used = [arm for arm, weight in compared.weights.items() if weight]
        return min((len(self.column(arm, compared.metric, compared.arm)) for arm in used), default=0)

    def base(self, compared: Comparison) -> dict[int, float]:
        """Seed -> mean of the arms that one arm is compared with."""
        columns = [self.column(arm, compared.metric, compared.arm) for arm in compared.base]
        seeds = set.intersection(*(set(column) for column in columns)) if columns else set()
        return {seed: sum(column[seed] for column in columns) / len(columns) for seed in sorted(seeds)}

    def runs(self, arm: str) -> set[int]:
        """Seeds of the arm's complete runs."""
        return {seed for by_seed in self.values.get(arm, {}).values() for seed in by_seed}

    def pressure(self, arms: Sequence[str], world: str) -> float | None:
        """Mean pressure index of the arms in a world (empty: over the trained worlds); None if no run has it."""
        found = [v for arm in arms for v in self.column(arm, f"pressure.{world}" if world else "pressure").values()]
        return sum(found) / len(found) if found else None

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

    def notes(self, used: Iterable[str]) -> tuple[str, ...]:
        """What a reader must know about the runs of these arms."""
        used = list(used)
        notes = []
        seeds = {seed for arm in self.values for seed in self.runs(arm)}
        lost = {seed for arm in used for seed in seeds - self.runs(arm)}
        if lost:
            notes.append(f"a run of these seeds is missing: {', '.join(map(str, sorted(lost)))}")
        if oracles := [arm.title for arm in self.arms if arm.oracle and arm.name in used]:
            notes.append(f"includes arms that read ground truth: {', '.join(oracles)}")
        return tuple(notes)
