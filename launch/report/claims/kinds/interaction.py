"""Does the effect of one factor depend on another?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from launch.config.study import StudyConfig
from launch.errors import nearest
from launch.report.claims.arms import ArmSelector, axis_values
from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import Comparison, EffectEstimate, difference_of, either
from launch.report.claims.judgement import differences, shifts
from launch.report.claims.table import Table
from launch.report.claims.wording import told

Corners = tuple[list[str], list[str], list[str], list[str]]
"""Arms with both factors, with the first alone, with the second alone, and with neither."""


class Interaction(Claim):
    """The difference of differences between two factors: (both - second) - (first - neither).

    The factors are two ways to treat an arm (`treatment` has both, `first` and `second` one each, `reference` none), or
    the treatment and an axis (its effect at the second of `levels` minus that at the first).
    """

    first: ArmSelector | None = Field(None, description="arms with the first factor alone")
    second: ArmSelector | None = Field(None, description="arms with the second factor alone")
    axis: str = Field("", description="the second factor, where it is an axis: its short name")
    levels: Annotated[tuple[Any, ...], Field(max_length=2)] = Field(
        (), description="two values of the axis: without and with the second factor"
    )
    direction: Literal["either", "up", "down"] = Field(
        "either", description="up: the second factor adds to the effect of the first; down: it takes from it"
    )

    kind = "difference"

    @model_validator(mode="after")
    def _two_factors(self) -> Interaction:
        arms, axis = (self.first is not None, self.second is not None), (bool(self.axis), len(self.levels) == 2)
        if not ((all(arms) and not any((self.axis, self.levels))) or (all(axis) and not any(arms))):
            raise ValueError("give `first` and `second` (arms), or `axis` and two `levels` of it")
        return self

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.axis,) if self.axis else ()

    def problems(self, study: StudyConfig) -> Iterator[str]:
        yield from super().problems(study)
        axes = axis_values(study)
        if self.axis and self.axis not in axes:
            yield f"axis: the study has no axis {self.axis!r}{nearest(self.axis, axes)}"
        elif self.axis and (wrong := [level for level in self.levels if level not in axes[self.axis]]):
            yield f"levels: {wrong[0]!r} is no value of the axis (values: {axes[self.axis]})"
        elif self.axis and self.levels[0] == self.levels[1]:
            yield "levels: the two are the same"

    def lacks(self, table: Table) -> str:
        if not self.axis:
            return super().lacks(table)
        sides = (self.treatment, self.treatment, self.reference, self.reference)
        levels = (*self.levels[::-1], *self.levels[::-1])
        for corner, side, level in zip(self._corners(table), sides, levels, strict=True):
            if not corner:
                return f"no complete run of {side.wanted} at {self.axis} = {level}"
        return ""

    def rule(self, table: Table) -> str:
        margin, alpha = self.smallest(table), table.evidence.alpha
        there = {
            "either": f"is not inside ±{margin:g}", "up": f"reaches {margin:g}", "down": f"reaches -{margin:g}",
        }[self.direction]  # fmt: skip
        absent = {
            "either": f"inside ±{margin:g}", "up": f"below {margin:g}", "down": f"above -{margin:g}",
        }[self.direction]  # fmt: skip
        sided = "two-sided" if self.direction == "either" else "one-sided"
        return (
            f"{self._name(table)} gets a {table.level:.2%} t interval (Welch, subjects as fixed effects) for "
            f"{self.listed}. Supported: for one metric the {sided} p, adjusted by Holm, is at most {alpha:.3g} and the "
            f"interval {there}. Contradicted: all intervals are {absent}. Else inconclusive."
        )

    def comparisons(self, table: Table) -> list[Comparison]:
        both, first, second, neither = self._corners(table)
        weights = difference_of(both, second)
        for arm, weight in difference_of(first, neither).items():
            weights[arm] = weights.get(arm, 0.0) - weight
        return [Comparison(metric, self._name(table), weights) for metric in self.metrics]

    def weigh(self, table: Table) -> Finding:
        compared, margin = self.comparisons(table), self.smallest(table)
        if self.direction == "either":
            outcomes = differences(table, compared, margin=margin)
        else:
            sign = 1 if self.direction == "up" else -1
            outcomes = shifts(table, compared, margin=margin, word=self._words[0], direction=sign)
        word = either({outcome.effect for outcome in outcomes}, *self._words)
        used = dict.fromkeys(arm for corner in self._corners(table) for arm in corner)
        return Finding(word, outcomes, self._sentence(table, outcomes), list(used))

    @property
    def _words(self) -> tuple[str, str]:
        return {
            "either": ("differs", "same"), "up": ("raised", "not raised"), "down": ("lowered", "not lowered"),
        }[self.direction]  # fmt: skip

    def _corners(self, table: Table) -> Corners:
        if self.first is not None and self.second is not None:
            both, neither = table.select(self.treatment), table.select(self.reference)
            return both, table.select(self.first), table.select(self.second), neither
        without, having = (table.at(self.axis, level).select(self.treatment) for level in self.levels)
        # an axis that multiplies the treatment alone leaves one reference for both levels
        beside = [table.at(self.axis, level, or_without=True).select(self.reference) for level in self.levels]
        return having, without, beside[1], beside[0]

    def _name(self, table: Table) -> str:
        if self.axis:
            effect = f"{table.mean_of(self.treatment)} - {table.title(self.reference)}"
            return f"({effect}) at {self.axis} = {self.levels[1]} - at {self.levels[0]}"
        sides = [self._side(table, side) for side in (self.treatment, self.second, self.first, self.reference)]
        return "({} - {}) - ({} - {})".format(*sides)

    @staticmethod
    def _side(table: Table, side: ArmSelector | None) -> str:
        return table.mean_of(side) if side else ""

    def _sentence(self, table: Table, outcomes: Sequence[EffectEstimate]) -> str:
        subject, against = self.named(table)
        one = f"the effect of {subject} against {against}" if self.axis else "the effect of one factor"
        other = self.axis or "the other"
        there, absent = self._words
        if apart := [outcome for outcome in outcomes if outcome.effect == there]:
            return f"{one} depends on {other} in {told(apart)}."
        if all(outcome.effect == absent for outcome in outcomes):
            return f"{one} does not depend on {other} by an amount that matters in {told(outcomes)}."
        return f"whether {one} depends on {other} stays open: {told(outcomes)}."
