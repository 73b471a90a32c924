"""What claims of a difference and of none have in common: treatment against reference, in either direction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

from launch.report.claims.base import REFERENCE, Claim, Finding
from launch.report.claims.effects import Comparison, EffectEstimate, difference_of
from launch.report.claims.judgement import beside, differences
from launch.report.claims.table import Table
from launch.report.claims.verdict import ArmVerdict, Word
from launch.report.claims.wording import least_p, told


class Contrast(Claim):
    """Each arm of the treatment minus the mean of the reference arms."""

    claims_effect: ClassVar[bool]
    """Whether a difference supports the claim or contradicts it."""

    @abstractmethod
    def read(self, effects: Collection[str]) -> Word:
        """The verdict of these effects, one per arm and metric."""

    def rule(self, table: Table) -> str:
        margin, alpha = self.smallest(table), table.evidence.alpha
        apart = "one of these differs"
        same = "all are the same"
        supported, contradicted = (apart, same) if self.claims_effect else (same, apart)
        return (
            f"Each arm's difference to {self.named(table)[1]} in {self.listed} gets a {table.level:.2%} t interval "
            "(Welch, subjects as fixed effects). Differs: its two-sided p, adjusted by Holm over arms and metrics, is "
            f"at most {alpha:.3g}, and the interval is not inside ±{margin:g}. The same: the interval is inside "
            f"±{margin:g}, and no replicate ended {2 * margin:g} or more from the reference. Supported: {supported}. "
            f"Contradicted: {contradicted}. Else inconclusive."
        )

    def weigh(self, table: Table) -> Finding:
        compared = self.comparisons(table)
        outcomes = differences(table, compared, margin=self.smallest(table))
        own = {each.arm: [] for each in compared}  # type: dict[str, list[EffectEstimate]]
        for each, outcome in zip(compared, outcomes, strict=True):
            own[each.arm].append(outcome)
        arms = [
            ArmVerdict(arm, self.read({o.effect for o in found}), tuple(found), least_p(found))
            for arm, found in own.items()
        ]
        word = self.read({outcome.effect for outcome in outcomes})
        used = [*own, *table.select(self.reference)]
        context = self._context(table)
        return Finding(
            word, [*outcomes, *context], self._sentence(table, outcomes), used, arms if len(arms) > 1 else ()
        )

    def _context(self, table: Table) -> list[EffectEstimate]:
        """Both sides against the study's reference arm, where that is neither of them."""
        sides = (table.select(self.treatment), table.select(self.reference))
        unshaped = table.select(REFERENCE)
        if not unshaped or any(set(unshaped) & set(side) for side in sides):
            return []
        name = table.title(REFERENCE)
        return [
            beside(table, Comparison(metric, f"{arm} - {name}", difference_of([arm], unshaped)))
            for metric in self.metrics
            for side in sides
            for arm in side
        ]

    def _sentence(self, table: Table, outcomes: Sequence[EffectEstimate]) -> str:
        subject, against = self.named(table)
        if apart := [outcome for outcome in outcomes if outcome.effect == "differs"]:
            return f"{subject} and {against} differ in {told(apart, outcomes)}."
        if all(outcome.effect == "same" for outcome in outcomes):
            return f"{subject} did the same as {against} in {told(outcomes)}."
        return f"whether {subject} does anything else than {against} stays open: {told(outcomes)}."
