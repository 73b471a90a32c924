"""What claims of a raised or a lowered metric have in common: one test a metric, and the same for each arm."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import EffectEstimate, combined_p, shift_test
from launch.report.claims.table import Table
from launch.report.claims.verdict import ArmVerdict, Word
from launch.report.claims.wording import joined, told
from shaping.audits.intervals import holm


class Shift(Claim):
    """The mean of the treatment arms against the mean of the reference arms, seed by seed."""

    verb: ClassVar[str]
    """What the treatment does: raise, lower."""
    word: ClassVar[str]
    """What an effect is called: raised, lowered."""
    direction: ClassVar[int]
    """1 asks for more, -1 for less."""
    claims_effect: ClassVar[bool]
    """Whether the effect supports the claim or contradicts it."""

    @abstractmethod
    def read(self, effects: Collection[str]) -> Word:
        """The verdict of these effects, one per metric."""

    def rule(self, table: Table) -> str:
        delta, (_, against) = self.smallest(table), self.named(table)
        sides = ("above", "below") if self.direction > 0 else ("below", "above")
        reach = f"{delta:g}" if self.direction > 0 else f"-{delta:g}"
        single = len(self.metrics) == 1
        there = f"{self.verb}s it" if single else f"{self.verb}s one of them"
        absent = f"does not {self.verb} it" if single else f"{self.verb}s none of them"
        supported, contradicted = (there, absent) if self.claims_effect else (absent, there)
        level, pool = f"{self.shared_level():.2%}", table.mean_of(self.treatment)
        treatment = f"the {pool}" if pool.startswith("mean of") else table.phrase(self.treatment)
        return (
            f"Paired by seed, {self.listed} gets a {level} t interval of its difference to {against}. "
            f"{self.word.capitalize()}: the interval is {sides[0]} 0 and reaches {reach}. Not {self.word}: all of it "
            f"is {sides[1]} {reach}. Supported: {treatment} {supported}. Contradicted: it {contradicted}. Else "
            f"inconclusive. Per arm the same, and an arm counts as {self.word} only if Holm's p over the arms of the "
            "treatment is below 0.05."
        )

    def weigh(self, table: Table) -> Finding:
        arms, base = table.select(self.treatment), table.select(self.reference)
        outcomes = self._tests(table, arms, base, self.contrast(table))
        word = self.read({outcome.effect for outcome in outcomes})
        return Finding(
            word, outcomes, self._sentence(table, outcomes), [*arms, *base], self._per_arm(table, arms, base)
        )

    def _tests(self, table: Table, arms: Sequence[str], base: Sequence[str], name: str) -> tuple[EffectEstimate, ...]:
        return tuple(
            shift_test(
                table.values, arms, base, metric,
                level=self.shared_level(), delta=self.smallest(table), name=name, word=self.word,
                direction=self.direction,
            )
            for metric in self.metrics
        )  # fmt: skip

    def _per_arm(self, table: Table, arms: Sequence[str], base: Sequence[str]) -> list[ArmVerdict]:
        raw = {arm: combined_p(table.values, arm, base, self.metrics) for arm in arms}
        testable = [arm for arm in arms if not math.isnan(raw[arm])]
        adjusted = dict(zip(testable, holm([raw[arm] for arm in testable]), strict=True))
        own = []
        for arm in arms:
            p = float(adjusted.get(arm, math.nan))
            found = self._tests(table, [arm], base, f"{arm} - {table.title(self.reference)}")
            # An arm that stands out is believed only if it survives the adjustment over the arms of the treatment.
            survives = p < 0.05 or not any(outcome.effect == self.word for outcome in found)
            own.append(ArmVerdict(arm, self.read({o.effect for o in found}) if survives else "inconclusive", found, p))
        return own

    def _sentence(self, table: Table, outcomes: Sequence[EffectEstimate]) -> str:
        subject, against = self.named(table)
        there = [outcome for outcome in outcomes if outcome.effect == self.word]
        if there:
            rest = [outcome for outcome in outcomes if outcome.effect != self.word]
            aside = "".join(f"; {told([outcome])} was {outcome.effect}" for outcome in rest)
            return f"{subject} {self.word} {told(there)} against {against}{aside}."
        if all(outcome.effect == f"not {self.word}" for outcome in outcomes):
            none = f"{self.word} none of" if len(outcomes) > 1 else f"did not {self.verb}"
            return f"{subject} {none} {told(outcomes)} by an amount that matters."
        metrics = joined((outcome.label for outcome in outcomes), "or")
        return f"whether {subject} {self.word} {metrics} stays open: {told(outcomes)}."
