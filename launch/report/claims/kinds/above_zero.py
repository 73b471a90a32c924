"""Is a metric above zero, of those that compare with something by themselves?"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import ClassVar

from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import Comparison, EffectEstimate, either
from launch.report.claims.judgement import shifts
from launch.report.claims.table import Table
from launch.report.claims.verdict import Word
from launch.report.claims.wording import told


class AboveZero(Claim):
    """A metric of a treatment is above zero by the margin: a difference to a rule, or to chance, that no arm plays."""

    claims_effect: ClassVar[bool] = True

    def comparisons(self, table: Table) -> list[Comparison]:
        return [
            Comparison(metric, arm, {arm: 1.0}, from_zero=True)
            for arm in table.select(self.treatment)
            for metric in self.metrics
        ]

    def read(self, effects: Collection[str]) -> Word:
        """The verdict of these effects, one per arm and metric."""
        return either(effects, "above", "not above")

    def rule(self, table: Table) -> str:
        margin, alpha = self.smallest(table), table.evidence.alpha
        there, absent = "one of them is above", "none is above"
        supported, contradicted = (there, absent) if self.claims_effect else (absent, there)
        return (
            f"The mean of each arm in {self.listed} gets a {table.level:.2%} t interval (subjects as fixed effects). "
            f"Above: its one-sided p of zero, adjusted by Holm over arms and metrics, is at most {alpha:.3g} and the "
            f"interval reaches {margin:g}. Not above: all of it is below {margin:g}. Supported: {supported}. "
            f"Contradicted: {contradicted}. Else inconclusive."
        )

    def weigh(self, table: Table) -> Finding:
        outcomes = shifts(table, self.comparisons(table), margin=self.smallest(table), word="above")
        word = self.read({outcome.effect for outcome in outcomes})
        return Finding(word, outcomes, self._sentence(table, outcomes), table.select(self.treatment))

    def _sentence(self, table: Table, outcomes: Sequence[EffectEstimate]) -> str:
        subject = self.named(table)[0]
        if there := [outcome for outcome in outcomes if outcome.effect == "above"]:
            return f"{subject} is above zero in {told(there, outcomes)}."
        if all(outcome.effect == "not above" for outcome in outcomes):
            return f"{subject} is not above zero by an amount that matters in {told(outcomes)}."
        return f"whether {subject} is above zero stays open: {told(outcomes)}."
