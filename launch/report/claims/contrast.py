"""What claims of a difference and of none have in common: treatment against reference, in either direction."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

from launch.report.claims.base import REFERENCE, Claim, Finding
from launch.report.claims.effects import EffectEstimate, contrast, difference_test
from launch.report.claims.table import Table
from launch.report.claims.verdict import Word
from launch.report.claims.wording import told


class Contrast(Claim):
    """The mean of the treatment arms minus the mean of the reference arms, seed by seed."""

    claims_effect: ClassVar[bool]
    """Whether a difference supports the claim or contradicts it."""

    @abstractmethod
    def read(self, effects: Collection[str]) -> Word:
        """The verdict of these effects, one per metric."""

    def rule(self, table: Table) -> str:
        delta = self.smallest(table)
        apart = f"one interval excludes 0 and is not inside ±{delta:g}"
        same = f"all are inside ±{delta:g}"
        supported, contradicted = (apart, same) if self.claims_effect else (same, apart)
        return (
            f"Paired by seed, {self.contrast(table)} gets a {self.shared_level():.2%} t interval for {self.listed}. "
            f"Supported: {supported}. Contradicted: {contradicted}. Else inconclusive."
        )

    def weigh(self, table: Table) -> Finding:
        arms, base = table.select(self.treatment), table.select(self.reference)
        outcomes = [
            difference_test(
                table.values, arms, base, metric,
                level=self.shared_level(), delta=self.smallest(table), name=self.contrast(table),
            )
            for metric in self.metrics
        ]  # fmt: skip
        word = self.read({outcome.effect for outcome in outcomes})
        return Finding(word, [*outcomes, *self._context(table)], self._sentence(table, outcomes), [*arms, *base])

    def _context(self, table: Table) -> list[EffectEstimate]:
        """Both sides against the study's reference arm, where that is neither of them."""
        sides = (self.treatment, self.reference)
        unshaped = table.select(REFERENCE)
        if not unshaped or any(set(unshaped) & set(table.select(side)) for side in sides):
            return []
        return [
            contrast(
                table.values, table.select(side), unshaped, metric, 0.95,
                f"{table.mean_of(side)} - {table.title(REFERENCE)}",
            )
            for metric in self.metrics
            for side in sides
        ]  # fmt: skip

    def _sentence(self, table: Table, outcomes: Sequence[EffectEstimate]) -> str:
        subject, against = self.named(table)
        if apart := [outcome for outcome in outcomes if outcome.effect == "differs"]:
            return f"{subject} and {against} differ in {told(apart)}."
        if all(outcome.effect == "same" for outcome in outcomes):
            return f"{subject} did the same as {against} in {told(outcomes)}."
        return f"whether {subject} does anything else than {against} stays open: {told(outcomes)}."
