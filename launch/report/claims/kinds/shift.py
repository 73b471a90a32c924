"""What claims of a raised or a lowered metric have in common: one test for each arm and metric."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import ClassVar

from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import EffectEstimate
from launch.report.claims.judgement import shifts
from launch.report.claims.pressure import unpressed
from launch.report.claims.table import Table
from launch.report.claims.verdict import ArmVerdict, Word
from launch.report.claims.wording import joined, least_p, told


class Shift(Claim):
    """Each arm of the treatment against the mean of the reference arms."""

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
        """The verdict of these effects, one per arm and metric."""

    def rule(self, table: Table) -> str:
        margin, (_, against) = self.smallest(table), self.named(table)
        up = self.direction > 0
        reach = f"{margin:g}" if up else f"-{margin:g}"
        alpha = table.evidence.alpha
        there, absent = f"one arm {self.verb}s one", f"no arm {self.verb}s any"
        if len(self.metrics) == 1:
            there, absent = f"one arm {self.verb}s it", f"no arm {self.verb}s it"
        supported, contradicted = (there, absent) if self.claims_effect else (absent, there)
        pressed = " An arm whose pressure exceeds that of the reference by less than 0.05 is not tested."
        return (
            f"Each arm's difference to {against} in {self.listed} gets a {table.level:.2%} t interval (Welch, subjects "
            f"as fixed effects). {self.word.capitalize()}: its one-sided p, adjusted by Holm over arms and metrics, "
            f"is at most {alpha:.3g} and the interval reaches {reach}. Not {self.word}: all of it is "
            f"{'below' if up else 'above'} {reach}, and no replicate ended {2 * margin:g} or more "
            f"{'above' if up else 'below'} the reference. Supported: {supported}. Contradicted: {contradicted}. Else "
            f"inconclusive.{pressed if self.needs_pressure else ''}"
        )

    def weigh(self, table: Table) -> Finding:
        compared = self.comparisons(table)
        idle = unpressed(table, compared) if self.needs_pressure else set()
        tested = [each for each in compared if each.arm not in idle]
        outcomes = shifts(
            table, tested, margin=self.smallest(table), word=self.word, direction=self.direction
        )  # fmt: skip
        word = self.read({outcome.effect for outcome in outcomes})
        own = {each.arm: [] for each in compared}  # type: dict[str, list[EffectEstimate]]
        for each, outcome in zip(tested, outcomes, strict=True):
            own[each.arm].append(outcome)
        arms = [
            ArmVerdict(
                arm, self.read({o.effect for o in found}) if found else "not tested", tuple(found), least_p(found)
            )
            for arm, found in own.items()
        ]
        return Finding(
            word, outcomes, self._sentence(table, outcomes), [*own, *table.select(self.reference)], arms
        )  # fmt: skip

    def _sentence(self, table: Table, outcomes: Sequence[EffectEstimate]) -> str:
        subject, against = self.named(table)
        there = [outcome for outcome in outcomes if outcome.effect == self.word]
        if there:
            rest = [outcome for outcome in outcomes if outcome.effect != self.word]
            aside = "".join(f"; {told([outcome], outcomes)} was {outcome.effect}" for outcome in rest)
            return f"{subject} {self.word} {told(there, outcomes)} against {against}{aside}."
        if all(outcome.effect == f"not {self.word}" for outcome in outcomes):
            none = f"{self.word} none of" if len(outcomes) > 1 else f"did not {self.verb}"
            return f"{subject} {none} {told(outcomes)} by an amount that matters."
        metrics = joined(dict.fromkeys(outcome.label for outcome in outcomes), "or")
        return f"whether {subject} {self.word} {metrics} stays open: {told(outcomes)}."
