"""What several methods do alone and together, from the arms of a factorial."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from launch.config.arms.factorial import JOINT, MOST, name_of, subsets
from launch.config.study import StudyConfig
from launch.report.claims.arms import ArmSelector
from launch.report.claims.base import Claim, Finding
from launch.report.claims.effects import Comparison, EffectEstimate, difference_of, either
from launch.report.claims.judgement import beside, differences, shifts
from launch.report.claims.table import Table
from launch.report.claims.wording import told
from launch.report.metrics import label

WORDS: Mapping[str, tuple[str, str]] = {
    "either": ("differs", "same"),
    "up": ("raised", "not raised"),
    "down": ("lowered", "not lowered"),
}
"""Direction -> what an effect is called, and its absence."""


def effect_weights(factors: Sequence[str], term: Sequence[str]) -> dict[tuple[str, ...], float]:
    """The weight of each subset of the factors in a main effect (a term of one) or an interaction (of several).

    sum over subsets T of (-1)^(|term| - |term & T|) mean[T], over 2^(k - |term|): the difference that the one factor
    makes, the difference of differences of two, and so on, as a mean over all settings of the other factors. So all
    terms are in the unit of the metric, and that of two of two factors is the `Interaction` of them.
    """
    share = 2.0 ** (len(term) - len(factors))
    return {chosen: share * (-1.0) ** (len(term) - len(set(term) & set(chosen))) for chosen in subsets(factors)}


class Factorial(Claim):
    """Main effects and interactions of the arms that a study's `factorial` combines."""

    factors: Annotated[tuple[str, ...], Field(min_length=2, max_length=MOST)] = Field(
        description="arms whose combinations the study holds, two at least; of a larger factorial: the others are off"
    )
    terms: Literal["interactions", "main", "all"] | tuple[str, ...] = Field(
        "interactions",
        description="what decides: all interactions, all main effects, both, or a list (`[prompt, prompt+routing]`)",
    )
    direction: Literal["either", "up", "down"] = Field(
        "either", description="up: an effect above 0 is claimed; down: one below 0"
    )

    kind = "difference"

    @model_validator(mode="before")
    @classmethod
    def _arms(cls, value: Any) -> Any:
        factors = value.get("factors") if isinstance(value, dict) else None
        if not isinstance(factors, list | tuple) or not all(isinstance(each, str) for each in factors):
            return value
        if "treatment" in value:
            raise ValueError("treatment: leave it out; it is the combinations of the factors")
        return {**value, "treatment": [name_of(chosen) for chosen in subsets(factors[: MOST + 1], 1)]}

    @field_validator("factors")
    @classmethod
    def _different(cls, factors: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(factors)) < len(factors):
            raise ValueError("a factor is listed twice")
        return factors

    @model_validator(mode="after")
    def _known_terms(self) -> Factorial:
        known = {name_of(chosen) for chosen in subsets(self.factors, 1)}
        listed = self.terms if isinstance(self.terms, tuple) else ()
        if isinstance(self.terms, tuple) and not listed:
            raise ValueError("terms: list one at least")
        for term in listed:
            if self._ordered(term) not in known:
                raise ValueError(
                    f"terms: {term!r} is no effect of {', '.join(self.factors)}; write {self.factors[0]!r} for a main "
                    f"effect, {name_of(self.factors[:2])!r} for an interaction"
                )
        return self

    def problems(self, study: StudyConfig) -> Iterator[str]:
        if missing := [name for name in self.treatment.arms if name not in study.arms]:
            yield (
                f"factors: the study has no arm {missing[0]!r}; write factorial: [{', '.join(self.factors)}] "
                "to have all combinations"
            )
            return
        yield from super().problems(study)

    def holds_at(self, table: Table) -> bool:
        return all(any(corner.may_fit(arm) for arm in table.arms) for corner in self._corners().values())

    def lacks(self, table: Table) -> str:
        missing = [corner.wanted for corner in self._corners().values() if not table.select(corner)]
        return f"no complete run of {' or of '.join(missing)}" if missing else ""

    def rule(self, table: Table) -> str:
        margin, alpha = self.smallest(table), table.evidence.alpha
        reach = {"either": f"is not inside ±{margin:g}", "up": f"reaches {margin:g}", "down": f"reaches -{margin:g}"}
        absent = {"either": f"inside ±{margin:g}", "up": f"below {margin:g}", "down": f"above -{margin:g}"}
        sided = "two-sided" if self.direction == "either" else "one-sided"
        return (
            f"Each of {', '.join(self._title(term) for term in self._deciding())} gets a {table.level:.2%} t interval "
            f"(Welch, subjects as fixed effects) for {self.listed}: the difference, of two factors the difference of "
            "differences, and so on, as a mean over all settings of the other factors. Supported: for one of them the "
            f"{sided} p, adjusted by Holm over all, is at most {alpha:.3g} and the interval {reach[self.direction]}. "
            f"Contradicted: all intervals are {absent[self.direction]}. Else inconclusive."
        )

    def comparisons(self, table: Table) -> list[Comparison]:
        return self._compared(table, self._deciding())

    def weigh(self, table: Table) -> Finding:
        compared, margin = self.comparisons(table), self.smallest(table)
        there, absent = WORDS[self.direction]
        if self.direction == "either":
            outcomes = differences(table, compared, margin=margin)
        else:
            sign = 1 if self.direction == "up" else -1
            outcomes = shifts(table, compared, margin=margin, word=there, direction=sign)
        others = [term for term in subsets(self.factors, 1) if term not in self._deciding()]
        context = [beside(table, each) for each in self._compared(table, others)]
        word = either({outcome.effect for outcome in outcomes}, there, absent)
        used = dict.fromkeys(arm for corner in self._corners().values() for arm in table.select(corner))
        return Finding(word, [*outcomes, *context], self._sentence(outcomes), list(used))

    def _compared(self, table: Table, terms: Sequence[tuple[str, ...]]) -> list[Comparison]:
        corners = {chosen: table.select(corner) for chosen, corner in self._corners().items()}
        return [
            Comparison(metric, self._title(term), _over_arms(effect_weights(self.factors, term), corners))
            for term in terms
            for metric in self.metrics
        ]

    def _corners(self) -> dict[tuple[str, ...], ArmSelector]:
        """Subset of the factors -> its arms."""
        named = {chosen: ArmSelector(arms=(name_of(chosen),)) for chosen in subsets(self.factors, 1)}
        return {(): self.reference, **named}

    def _deciding(self) -> list[tuple[str, ...]]:
        every = subsets(self.factors, 1)
        if isinstance(self.terms, tuple):
            listed = {self._ordered(term) for term in self.terms}
            return [term for term in every if name_of(term) in listed]
        least, most = {"main": (1, 1), "interactions": (2, MOST), "all": (1, MOST)}[self.terms]
        return [term for term in every if least <= len(term) <= most]

    def _ordered(self, term: str) -> str:
        """The term with its factors in the order of the claim; unchanged if it names another one."""
        parts = term.split(JOINT)
        known = [factor for factor in self.factors if factor in parts]
        return name_of(known) if sorted(known) == sorted(parts) else term

    @staticmethod
    def _title(term: Sequence[str]) -> str:
        return f"the effect of {term[0]}" if len(term) == 1 else f"the interaction {' x '.join(term)}"

    def _sentence(self, outcomes: Sequence[EffectEstimate]) -> str:
        there, absent = WORDS[self.direction]
        if apart := [outcome for outcome in outcomes if outcome.effect == there]:
            return f"there is an effect: {_listed(apart)}."
        if all(outcome.effect == absent for outcome in outcomes):
            return f"none of {len(outcomes)} terms has an effect that matters: {told(outcomes)}."
        return f"which terms have an effect stays open: {_listed(outcomes)}."


def _over_arms(
    weights: Mapping[tuple[str, ...], float], corners: Mapping[tuple[str, ...], Sequence[str]]
) -> dict[str, float]:
    """The weights of arms: those of one corner share its weight."""
    found: dict[str, float] = {}
    for chosen, weight in weights.items():
        for arm, share in difference_of(corners[chosen], ()).items():
            found[arm] = found.get(arm, 0.0) + weight * share
    return found


def _listed(outcomes: Sequence[EffectEstimate]) -> str:
    """`the interaction a x b in deception (+0.12)`."""
    return ", ".join(f"{each.contrast} in {label(each.metric)} ({each.interval.mean:+.2f})" for each in outcomes)
