"""Does one group of arms lose reach of reward, and does another keep it?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import Field

from launch.config.study import StudyConfig
from launch.report.claims.arms import ArmSelector
from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import Comparison, EffectEstimate, difference_of
from launch.report.claims.judgement import beside, shifts
from launch.report.claims.metric_names import metric_problem
from launch.report.claims.table import Table
from launch.report.claims.verdict import Word
from launch.report.claims.wording import joined, number, told
from launch.report.metrics import label


class LosesAccess(Claim):
    """An arm of the treatment lowers a metric against the reference, and no spared arm does."""

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

    def comparisons(self, table: Table) -> list[Comparison]:
        return self.against_reference(table, self.treatment) + self.against_reference(table, self.spared)

    def rule(self, table: Table) -> str:
        margin, alpha = self.smallest(table), table.evidence.alpha
        losing, keeping = table.phrase(self.treatment), table.phrase(self.spared)
        return (
            f"Each arm's difference to {self.named(table)[1]} in {self.listed} gets a {table.level:.2%} t interval "
            f"(Welch, subjects as fixed effects). Lost: its one-sided p, adjusted by Holm over the arms and metrics of "
            f"its group, is at most {alpha:.3g} and the interval reaches -{margin:g}. Not lost: all of it is above "
            f"-{margin:g}, and no replicate ended {2 * margin:g} or more below. Supported: one arm of {losing} lost it "
            f"and none of {keeping} did. Contradicted: none of {losing} lost it, or one of {keeping} did, each at half "
            "the level. Else inconclusive."
        )

    def weigh(self, table: Table) -> Finding:
        alpha = table.evidence.alpha
        lost, kept = (self._tests(table, side, alpha) for side in (self.treatment, self.spared))
        stricter = tuple(self._tests(table, side, alpha / 2) for side in (self.treatment, self.spared))
        base = tuple(table.select(self.reference))
        context = [
            beside(table, Comparison(metric, f"{arm} - {table.title(self.reference)}", difference_of([arm], base)))
            for metric in self.context
            for side in (self.treatment, self.spared)
            for arm in table.select(side)
            if table.column(arm, metric)
        ]
        used = [*table.select(self.treatment), *table.select(self.spared), *base]
        word = self._word(lost, kept, *stricter)
        return Finding(word, [*lost, *kept, *context], self._sentence(table, lost, kept, context), used)

    def _tests(self, table: Table, side: ArmSelector, alpha: float) -> list[EffectEstimate]:
        compared = self.against_reference(table, side)
        return shifts(table, compared, margin=self.smallest(table), word="lost", direction=-1, alpha=alpha)

    @staticmethod
    def _word(
        lost: Sequence[EffectEstimate],
        kept: Sequence[EffectEstimate],
        stricter_lost: Sequence[EffectEstimate],
        stricter_kept: Sequence[EffectEstimate],
    ) -> Word:
        """Both parts must hold for support (intersection-union); either suffices for the contrary (Bonferroni)."""
        if {o.effect for o in stricter_lost} == {"not lost"} or any(o.effect == "lost" for o in stricter_kept):
            return "contradicted"
        both = any(o.effect == "lost" for o in lost) and {o.effect for o in kept} == {"not lost"}
        return "supported" if both else "inconclusive"

    def _sentence(
        self,
        table: Table,
        lost: Sequence[EffectEstimate],
        kept: Sequence[EffectEstimate],
        context: Sequence[EffectEstimate],
    ) -> str:
        names = (self.subject or table.phrase(self.treatment), table.phrase(self.spared))
        parts = [f"{name} {_said(group)}" for name, group in zip(names, (lost, kept), strict=True)]
        text = ", ".join(parts)
        for metric in self.context:
            beside_it = [f"{o.contrast} {number(o)}" for o in context if o.metric == metric]
            text += f"; {label(metric)}: {joined(beside_it)}" if beside_it else ""
        return f"{text}."


def _said(group: Sequence[EffectEstimate]) -> str:
    """`lost reward access (...)` of the outcomes of one group."""
    if there := [o for o in group if o.effect == "lost"]:
        return f"lost {told(there, group)}"
    if all(o.effect == "not lost" for o in group):
        return f"kept {told(group)}"
    return f"may or may not have lost {told(group)}"
