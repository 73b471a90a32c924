"""Does a metric rise, or fall, with the dose?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from launch.config.study import StudyConfig
from launch.errors import nearest
from launch.report.claims.arms import axis_values
from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import Comparison, EffectEstimate, difference_of
from launch.report.claims.judgement import shifts
from launch.report.claims.table import Table
from launch.report.claims.verdict import Word
from launch.report.claims.wording import joined, number, told

LEAST_DOSES = 3
"""With two doses there is no order to see: that is a claim that raises or lowers."""

Sides = tuple[list[str], ...]
"""The arms of the treatment and, where they are compared with it, those of the reference."""


class Ordered(Claim):
    """The metrics rise with the dose (or fall), and no step between neighbouring doses turns back."""

    dose: str | dict[str, Annotated[float, Field(ge=-1e12, le=1e12)]] = Field(
        description="an axis of numbers by its short name, or arm -> dose"
    )
    values: dict[str, Annotated[float, Field(ge=-1e12, le=1e12)]] = Field(
        {}, description="of an axis of names, such as `point`: name -> dose; other names are left out"
    )
    direction: Literal["up", "down"] = Field("up", description="up: they rise with the dose; down: they fall")
    scale: Literal["linear", "log"] = Field(
        "linear", description="log: the line is over the logarithm of the dose, as for sizes of models"
    )
    relative: bool = Field(
        True, description="the difference to the reference at the same dose; false: the metric itself"
    )

    @model_validator(mode="before")
    @classmethod
    def _arms_of_doses(cls, value: Any) -> Any:
        if not isinstance(value, dict) or not isinstance(value.get("dose"), dict):
            return value
        if "treatment" in value:
            raise ValueError("the arms are those that `dose` lists: leave `treatment` out")
        if value.get("values"):
            raise ValueError("`dose` says the doses of arms: leave `values` out, which are of names of an axis")
        return {**value, "treatment": list(value["dose"])}

    @property
    def axes(self) -> tuple[str, ...]:
        return (self.dose,) if isinstance(self.dose, str) else ()

    def problems(self, study: StudyConfig) -> Iterator[str]:
        yield from super().problems(study)
        if isinstance(self.dose, dict):
            doses: Sequence[Any] = list(self.dose.values())
        elif self.dose in (axes := axis_values(study)):
            names = axes[self.dose]
            doses = [self.values.get(name, name) for name in names if not self.values or name in self.values]
            if unknown := [name for name in self.values if name not in names]:
                yield f"values: {unknown[0]!r} is no value of the axis {self.dose!r}{nearest(unknown[0], names)}"
            if len(set(self.values.values())) < len(self.values):
                yield "values: two names have the same dose: leave one of them out"
        else:
            yield f"dose: the study has no axis {self.dose!r}{nearest(self.dose, axes)}"
            return
        if wrong := [dose for dose in doses if isinstance(dose, bool) or not isinstance(dose, (int, float))]:
            yield f"dose: {wrong[0]!r} is no number"
        elif self.scale == "log" and min(doses) <= 0:
            yield f"scale: log needs doses above 0, and there is {min(doses):g}"
        elif len(set(doses)) < LEAST_DOSES:
            yield f"dose: {LEAST_DOSES} different doses at least are needed; with two, claim Raises or Lowers"

    def lacks(self, table: Table) -> str:
        doses = self._doses(table)
        if len(doses) < LEAST_DOSES:
            return f"{LEAST_DOSES} doses at least are needed, and there are {len(doses)}"
        empty = [f"{dose:g}" for dose, sides in doses.items() if not all(sides)]
        return f"no complete run at dose {joined(empty)}" if empty else ""

    def rule(self, table: Table) -> str:
        margin, up, alpha = self.smallest(table), self.direction == "up", table.evidence.alpha
        over = f"its difference to {self.named(table)[1]} at the same dose" if self.relative else "the metric"
        reach, back = (f"{margin:g}", "below") if up else (f"-{margin:g}", "above")
        word = self._word
        return (
            f"A straight line {self._over}is fitted to the means of {over}; its change from the least to the greatest "
            f"dose gets a {table.level:.2%} t interval (Welch, subjects as fixed effects), for {self.listed}. "
            f"{word.capitalize()}: its one-sided p, adjusted by Holm over the metrics, is at most {alpha:.3g} and the "
            f"interval reaches {reach}. Not {word}: it stays on the other side of {reach}. Reversed: a step between "
            f"neighbouring doses is {back} 0 by {margin:g} (p adjusted over all steps). Supported: a metric is {word}, "
            f"and none of its steps reversed. Contradicted: none is {word}. Else inconclusive."
        )

    @property
    def _over(self) -> str:
        return "over the logarithm of the dose " if self.scale == "log" else ""

    @property
    def _word(self) -> str:
        return "rising" if self.direction == "up" else "falling"

    @property
    def _verb(self) -> str:
        return "rise" if self.direction == "up" else "fall"

    @property
    def _sign(self) -> int:
        return 1 if self.direction == "up" else -1

    def comparisons(self, table: Table) -> list[Comparison]:
        doses = self._doses(table)
        values = list(doses)
        places = [math.log(dose) for dose in values] if self.scale == "log" else values
        centre = sum(places) / len(places)
        scale = (places[-1] - places[0]) / sum((place - centre) ** 2 for place in places)
        weights = _sum((doses[dose], scale * (place - centre)) for dose, place in zip(values, places, strict=True))
        name = f"fitted change, dose {values[0]:g} to {values[-1]:g}"
        return [Comparison(metric, name, weights) for metric in self.metrics]

    def weigh(self, table: Table) -> Finding:
        margin, doses = self.smallest(table), self._doses(table)
        trends = shifts(table, self.comparisons(table), margin=margin, word=self._word, direction=self._sign)
        steps = shifts(table, self._steps(doses), margin=margin, word="reversed", direction=-self._sign)
        turned = {step.metric for step in steps if step.effect == "reversed"}
        word: Word = "inconclusive"
        if any(trend.effect == self._word and trend.metric not in turned for trend in trends):
            word = "supported"
        elif all(trend.effect == f"not {self._word}" for trend in trends):
            word = "contradicted"
        used = dict.fromkeys(arm for sides in doses.values() for side in sides for arm in side)
        return Finding(word, [*trends, *steps], self._sentence(table, trends, steps), list(used))

    def _doses(self, table: Table) -> dict[float, Sides]:
        """Dose -> the names of its treatment arms and, where they are compared, of their reference; ascending."""
        if isinstance(self.dose, str):
            names = {arm.sweep_point[self.dose] for arm in table.arms if self.dose in arm.sweep_point}
            places = {self.values[n]: n for n in names if n in self.values} if self.values else {n: n for n in names}
            planned = set(places)
            at = {dose: table.at(self.dose, name) for dose, name in places.items()}
            # an axis that multiplies the treatment alone leaves one reference for all doses
            beside = {dose: table.at(self.dose, name, or_without=True) for dose, name in places.items()}
            arms = {dose: at[dose].select(self.treatment) for dose in planned}
        else:
            planned = set(self.dose.values())
            beside = dict.fromkeys(planned, table)
            own = {dose: tuple(arm for arm, given in self.dose.items() if given == dose) for dose in planned}
            arms = {dose: table.select(self.treatment.model_copy(update={"arms": own[dose]})) for dose in planned}
        if not self.relative:
            return {dose: (arms[dose],) for dose in sorted(planned)}
        return {dose: (arms[dose], beside[dose].select(self.reference)) for dose in sorted(planned)}

    def _steps(self, doses: Mapping[float, Sides]) -> list[Comparison]:
        """Neighbouring doses, the greater minus the lesser."""
        return [
            Comparison(metric, f"dose {high:g} - {low:g}", _sum([(doses[high], 1.0), (doses[low], -1.0)]))
            for metric in self.metrics
            for low, high in pairwise(doses)
        ]

    def _sentence(self, table: Table, trends: Sequence[EffectEstimate], steps: Sequence[EffectEstimate]) -> str:
        dose = self.dose if isinstance(self.dose, str) else "the dose"
        turned = [step for step in steps if step.effect == "reversed"]
        verb = "rose" if self.direction == "up" else "fell"
        if there := [trend for trend in trends if trend.effect == self._word]:
            back = "".join(f"; {s.label} turned back from {s.contrast} ({number(s)})" for s in turned)
            return f"with {dose}, {told(there)} {verb}{back}."
        if all(trend.effect == f"not {self._word}" for trend in trends):
            none = f"none of {told(trends)} {verb}" if len(trends) > 1 else f"{told(trends)} did not {self._verb}"
            return f"with {dose}, {none} by an amount that matters."
        return f"whether {joined((t.label for t in trends), 'or')} {verb} with {dose} stays open: {told(trends)}."


def _sum(doses: Iterable[tuple[Sides, float]]) -> dict[str, float]:
    """The weights of a sum of weight x (mean of the treatment - mean of the reference, if it is compared)."""
    weights: dict[str, float] = {}
    for (own, *base), weight in doses:
        for arm, share in (difference_of(own, base[0]) if base else difference_of(own, ())).items():
            weights[arm] = weights.get(arm, 0.0) + weight * share
    return {arm: weight for arm, weight in weights.items() if abs(weight) > 1e-12}
