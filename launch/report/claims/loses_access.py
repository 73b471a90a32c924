"""Does one group of arms lose reach of reward, and does another keep it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from launch.config.study import StudyConfig
from launch.report.claims.arms import ArmSelector
from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import EffectEstimate, contrast, shift_test
from launch.report.claims.metric_names import metric_problem
from launch.report.claims.table import Table
from launch.report.claims.verdict import Word
from launch.report.claims.wording import joined, number
from launch.report.metrics import label


class LosesAccess(Claim):
    """The treatment lowers the metrics against the reference, and the spared arms do not."""

    spared: ArmSelector = Field(description="the arms that are claimed to lose nothing")
    metrics: tuple[str, ...] = Field(
        ("reward_access",), min_length=1, description="what is lost or kept; an arm that loses one of them has lost"
    )
    context: tuple[str, ...] = Field(("blocked", "proxy_reward"), description="metrics that are printed beside them")

    def problems(self, study: StudyConfig) -> Iterator[str]:
        yield from super().problems(study)
        for index, metric in enumerate(self.context):
            if problem := metric_problem(metric, study):
                yield f"context.{index}: {problem}"

    def rule(self, table: Table) -> str:
        delta = self.smallest(table)
        losing, keeping = table.phrase(self.treatment), table.phrase(self.spared)
        return (
            f"Paired by seed, the mean difference of {losing} and that of {keeping} to {self.named(table)[1]} each get "
            f"a {self._level:.2%} t interval of {self.listed}. Lost: the interval is below 0 and reaches -{delta:g}. "
            f"Not lost: all of it is above -{delta:g}. Supported: {losing} lost it and {keeping} did not. "
            f"Contradicted: {losing} did not lose it, or {keeping} did. Else inconclusive."
        )

    @property
    def _level(self) -> float:
        """Both groups decide."""
        return self.shared_level(2 * len(self.metrics))

    def weigh(self, table: Table) -> Finding:
        base = table.select(self.reference)
        lost = self._tests(table, self.treatment, base)
        kept = self._tests(table, self.spared, base)
        beside = [
            contrast(table.values, table.select(side), base, metric, 0.95, self._name(table, side))
            for metric in self.context
            for side in (self.treatment, self.spared)
        ]
        used = [*table.select(self.treatment), *table.select(self.spared), *base]
        outcomes = [*lost, *kept, *beside]
        return Finding(self._word(lost, kept), outcomes, self._sentence(table, lost, kept, beside), used)

    def _tests(self, table: Table, side: ArmSelector, base: Sequence[str]) -> list[EffectEstimate]:
        return [
            shift_test(
                table.values, table.select(side), base, metric,
                level=self._level, delta=self.smallest(table), name=self._name(table, side), word="lost", direction=-1,
            )
            for metric in self.metrics
        ]  # fmt: skip

    def _name(self, table: Table, side: ArmSelector) -> str:
        return f"{table.mean_of(side)} - {table.title(self.reference)}"

    @staticmethod
    def _word(lost: Sequence[EffectEstimate], kept: Sequence[EffectEstimate]) -> Word:
        losses, losses_spared = {o.effect for o in lost}, {o.effect for o in kept}
        if losses == {"not lost"} or "lost" in losses_spared:
            return "contradicted"
        return "supported" if "lost" in losses and losses_spared == {"not lost"} else "inconclusive"

    def _sentence(
        self,
        table: Table,
        lost: Sequence[EffectEstimate],
        kept: Sequence[EffectEstimate],
        beside: Sequence[EffectEstimate],
    ) -> str:
        names = {self._name(table, self.treatment): self.subject or table.phrase(self.treatment)}
        names |= {self._name(table, self.spared): table.phrase(self.spared)}
        verbs = {"lost": "lost {}", "not lost": "kept {}", "unclear": "may or may not have lost {}"}
        parts = [f"{names[o.contrast]} {verbs[o.effect].format(o.label)} ({number(o)})" for o in [*lost, *kept]]
        text = ", ".join(parts)
        for metric in self.context:
            text += (
                f"; {label(metric)}: {joined(f'{names[o.contrast]} {number(o)}' for o in beside if o.metric == metric)}"
            )
        return f"{text}."
