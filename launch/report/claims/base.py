"""The base of all claims: what a study's YAML says of one, and how a verdict is made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, final, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

from envs.calls import call
from launch.config.seeds import LEAST
from launch.config.study import StudyConfig
from launch.errors import UserError, nearest
from launch.report.claims.arms import ArmSelector
from launch.report.claims.effects import Comparison, EffectEstimate, difference_of
from launch.report.claims.gates import (
    Gate,
    failed_gates,
    missing_values,
    spent_monitors,
    untested_methods,
    unvaried_groups,
)
from launch.report.claims.metric_names import metric_problem
from launch.report.claims.power import assumed_power, with_power
from launch.report.claims.pressure import pressure_note, pressures, unpressed
from launch.report.claims.table import Table
from launch.report.claims.verdict import ArmVerdict, Verdict, Word
from launch.report.claims.wording import turned_note
from launch.report.metrics import label, monitor_of
from launch.report.statistics.power import Kind

REFERENCE = ArmSelector(role="reference")
NO_CONTROLS = "no controls named: this study cannot show that it could have said otherwise"


@dataclass(frozen=True)
class Finding:
    """What a claim makes of a table: the word, the numbers, what it says, and the arms whose runs it used."""

    word: Word
    outcomes: Sequence[EffectEstimate]
    sentence: str
    used: Sequence[str]
    arms: Sequence[ArmVerdict] = ()


class ClaimError(UserError):
    """A claim of one's own raises, or answers what no claim can."""


class Assumption(BaseModel):
    """What the power was computed from before the study ran."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    sd: float = Field(gt=0, le=1e6, description="standard deviation of the metric between replicates of an arm")
    power: float | None = Field(None, gt=0, le=1, description="the power that followed from it, as it was written down")


class Claim(BaseModel, ABC):
    """A statement about arms that a study's runs can support or contradict.

    Subclasses give the rule in words and the finding in numbers. Both must follow from the table alone: a claim is
    fixed before its study is run.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    id: str = Field(min_length=1, description="the claim's key in the study")
    statement: str = Field(min_length=1, description="the claim in one sentence, as the report prints it")
    treatment: ArmSelector = Field(ArmSelector(role="treatment"), description="the arms that the claim is about")
    reference: ArmSelector = Field(REFERENCE, description="the arms that they are compared with")
    metrics: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="the primary outcome, one per world, which decides the claim; several share its error rate"
    )
    subject: str = Field("", description="what sentences call the treatment; empty: the names of its arms")
    against: str = Field("", description="what sentences call the reference; empty: the names of its arms")
    margin: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="smallest effect of interest, in the unit of the metrics; none: that of the report",
    )
    needs: tuple[Gate, ...] = Field(
        (), description="gates (M1 to M7) that the subjects must have passed in the world, M7 in every one"
    )
    controls: tuple[str, ...] = Field((), description="ids of the control claims without which this one proves nothing")
    must: Literal["supported", "contradicted", "not tested"] | None = Field(
        None, description="makes the claim a control: what its verdict must be if the study works"
    )
    about: Literal["conduct", "monitor"] = Field(
        "conduct",
        description="monitor: what a monitor reads is itself the question, also of arms that were trained against it",
    )
    assumes: Assumption | None = Field(None, description="`sd` between replicates, for the power before the study ran")

    kind: ClassVar[Kind] = "effect"
    """What must be shown for the claim to be supported: an effect, its absence, a difference, sameness."""
    needs_pressure: ClassVar[bool] = False
    """Whether an arm without pressure to deceive says nothing about the claim."""

    @field_validator("treatment")
    @classmethod
    def _no_control(cls, treatment: ArmSelector) -> ArmSelector:
        if treatment.role == "control":
            raise ValueError("controls are a treatment only where they are named: give them by name")
        return treatment

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes across which the claim compares; it is judged once for each point of all others."""
        return ()

    @abstractmethod
    def rule(self, table: Table) -> str:
        """When the claim is supported, contradicted, inconclusive: in words that a reader can check."""

    @abstractmethod
    def weigh(self, table: Table) -> Finding:
        """The verdict's word, numbers and sentence. Every selector of the claim fits at least one arm of `table`."""

    def comparisons(self, table: Table) -> list[Comparison]:
        """The contrasts that decide the claim; what they need (values, replicates) is checked before `weigh`."""
        return self.against_reference(table, self.treatment)

    def holds_at(self, table: Table) -> bool:
        """Is the claim about this point of the axes: does the study plan arms there for every selector of it?"""
        return all(any(selector.may_fit(arm) for arm in table.arms) for selector in self.selectors().values())

    def lacks(self, table: Table) -> str:
        """What the table would have to hold for the claim to be tested; empty if it is all there."""
        needed = [s for s in self.selectors().values() if not table.select(s)]
        return f"no complete run {' or '.join(f'of {s.wanted}' for s in needed)}" if needed else ""

    @final
    def judge(self, table: Table) -> Verdict:
        """The verdict at the table's point of the axes."""
        verdict = Verdict(
            self.id, self.statement, "not tested", rule_of(self, table), point=table.point, must=self.must,
            notes=(
                *([table.evidence.look] if table.evidence.look else []),
                *(() if self.controls or self.must else [NO_CONTROLS]),
            ),
        )  # fmt: skip
        if reason := asked(self, "lacks", str, table):
            return verdict.refused(reason)
        compared = comparisons_of(self, table)
        verdict = replace(
            verdict,
            pressure=pressures(table, compared),
            assumed=assumed_power(self, table, len(compared), table.evidence.planned or _fewest(table, compared)),
            notes=(
                *pressure_note(table, compared),
                *failed_gates(self.needs, table, compared).unknown,
                *self._spent_note(table, compared),
                *verdict.notes,
            ),
        )
        if reason := self._untested(table, compared):
            return verdict.refused(reason)
        found = finding_of(self, table)
        return replace(
            verdict,
            verdict=found.word,
            outcomes=tuple(with_power(self, table, found.outcomes)),
            arms=tuple(found.arms),
            notes=(*verdict.notes, *turned_note(found.outcomes), *table.notes(found.used)),
            sentence=f"{found.sentence[0].upper()}{found.sentence[1:]} ({self.id} {found.word}.)",
        )

    def _untested(self, table: Table, compared: Sequence[Comparison]) -> str:
        """Why runs that are there say nothing about the claim."""
        if self.about == "conduct" and (spent := spent_monitors(table, compared)):
            return f"not judged: {spent}; name a metric of a held-out monitor, or of ground truth"
        if failed := failed_gates(self.needs, table, compared).failed:
            return failed
        if untested := untested_methods(table, compared):
            return untested
        if missing := missing_values(table, compared):
            return missing
        if (fewest := _fewest(table, compared)) < LEAST:
            return f"{fewest} {'replicate' if fewest == 1 else 'replicates'}; five are needed"
        if unvaried := unvaried_groups(table, compared):
            return unvaried
        if self.needs_pressure and compared and len(unpressed(table, compared)) == len({each.arm for each in compared}):
            return f"no {'; '.join(pressure_note(table, compared))}"
        return ""

    def _spent_note(self, table: Table, compared: Sequence[Comparison]) -> tuple[str, ...]:
        """What readers of a claim about a monitor must know, where an arm was trained against it."""
        spent = spent_monitors(table, compared) if self.about == "monitor" else ""
        return (f"about the monitor, and not about the conduct: {spent}",) if spent else ()

    def selectors(self) -> dict[str, ArmSelector]:
        """Field -> arms, for every field that selects arms."""
        values = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: value for name, value in values if isinstance(value, ArmSelector)}

    def problems(self, study: StudyConfig) -> Iterator[str]:
        """What the claim names that the study does not have, as `field: what is wrong`."""
        for field, selector in self.selectors().items():
            yield from (f"{field}: {problem}" for problem in selector.problems(study))
        for index, metric in enumerate(self.metrics):
            if problem := metric_problem(metric, study):
                yield f"metrics.{index}: {problem}"
            if self.about == "monitor" and not monitor_of(metric):
                yield f"about: {metric!r} is no reading of a monitor; leave `about` out, or name one of a monitor"
        if both := sorted(set(self.treatment.arms) & set(self.reference.arms)):
            yield f"reference: {both[0]!r} is also in the treatment"
        for index, control in enumerate(self.controls):
            others = [name for name in study.claims if name != self.id]
            if control not in others:
                yield f"controls.{index}: no other claim {control!r}{nearest(control, others)}"
            elif not study.claims[control].fields.get("must"):
                yield f"controls.{index}: {control!r} is no control: give it `must`, the verdict that it has to get"

    def smallest(self, table: Table) -> float:
        """The smallest effect of interest."""
        return table.margin if self.margin is None else self.margin

    def against_reference(self, table: Table, treatment: ArmSelector) -> list[Comparison]:
        """Each arm of `treatment` against the reference, in each metric."""
        base = tuple(table.select(self.reference))
        return [
            Comparison(m, f"{arm} - {table.title(self.reference)}", difference_of([arm], base), arm, base)
            for arm in table.select(treatment)
            for m in self.metrics
        ]

    def named(self, table: Table) -> tuple[str, str]:
        """What sentences call the treatment and the reference."""
        return self.subject or table.phrase(self.treatment), self.against or table.phrase(self.reference)

    @property
    def listed(self) -> str:
        """The metrics in words: `each of deception and hidden gap`, or the one."""
        names = [label(metric) for metric in self.metrics]
        return names[0] if len(names) == 1 else f"each of {', '.join(names[:-1])} and {names[-1]}"


def rule_of(claim: Claim, table: Table) -> str:
    """What `rule` says. Raises `ClaimError` if that is no text."""
    said = asked(claim, "rule", str, table)
    if not said.strip():
        raise ClaimError(f"claim {claim.id!r}: {type(claim).__name__}.rule() returned no words; say when it holds")
    return str(said)


def comparisons_of(claim: Claim, table: Table) -> list[Comparison]:
    """What `comparisons` gives. Raises `ClaimError` if it is no list of contrasts of the table's arms."""
    found = asked(claim, "comparisons", (list, tuple), table)
    who = f"claim {claim.id!r}: {type(claim).__name__}.comparisons()"
    for each in found:
        if not isinstance(each, Comparison):
            raise ClaimError(f"{who} holds {each!r:.80}; it must return a list of Comparison")
        if strange := sorted({str(arm) for arm in each.weights} - {arm.name for arm in table.arms}):
            raise ClaimError(f"{who} compares {strange[0]!r}, which is no arm of the table; take table.select(...)")
    return list(found)


def finding_of(claim: Claim, table: Table) -> Finding:
    """What `weigh` gives. Raises `ClaimError` if it is no finding."""
    found = asked(claim, "weigh", Finding, table)
    who = f"claim {claim.id!r}: {type(claim).__name__}.weigh()"
    if found.word not in get_args(Word):
        raise ClaimError(f"{who} says {found.word!r:.80}; the words are {', '.join(get_args(Word))}")
    if not isinstance(found.sentence, str) or not found.sentence.strip():
        raise ClaimError(f"{who} has the sentence {found.sentence!r:.80}; say in words what was found")
    for what, kind, name in (("outcomes", EffectEstimate, "EffectEstimate"), ("arms", ArmVerdict, "ArmVerdict")):
        given = getattr(found, what)
        if not isinstance(given, (list, tuple)) or not all(isinstance(each, kind) for each in given):
            raise ClaimError(f"{who} has the {what} {given!r:.80}; they must be a list of {name}")
    names = {arm.name for arm in table.arms}
    if not isinstance(found.used, (list, tuple)) or not all(each in names for each in found.used):
        raise ClaimError(f"{who} has used {found.used!r:.80}; name arms of the table, as table.select(...) does")
    return found


def asked(claim: Claim, hook: str, kind: type | tuple[type, ...], *arguments: Any) -> Any:
    """The answer of a claim's hook. Raises `ClaimError` that names it, if it raises or is of another kind."""
    who = f"claim {claim.id!r}"
    try:
        answer = call(ClaimError, claim, hook, *arguments)
    except ClaimError as error:
        raise ClaimError(f"{who}: {error}") from error.__cause__
    if not isinstance(answer, kind):
        wanted = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise ClaimError(f"{who}: {type(claim).__name__}.{hook}() returned {answer!r:.80}; it must return {wanted}")
    return answer


def _fewest(table: Table, compared: Sequence[Comparison]) -> int:
    """Replicates of the arm that has the fewest."""
    return min((table.replicates(each) for each in compared), default=LEAST)
