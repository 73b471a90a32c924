"""The base of all claims: what a study's YAML says of one, and how a verdict is made of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from launch.config.study import StudyConfig
from launch.report.claims.arms import ArmSelector
from launch.report.claims.effects import EffectEstimate
from launch.report.claims.metric_names import metric_problem
from launch.report.claims.table import Table
from launch.report.claims.verdict import ArmVerdict, Verdict, Word
from launch.report.metrics import label

REFERENCE = ArmSelector(role="reference")


@dataclass(frozen=True)
class Finding:
    """What a claim makes of a table: the word, the numbers, what it says, and the arms whose runs it used."""

    word: Word
    outcomes: Sequence[EffectEstimate]
    sentence: str
    used: Sequence[str]
    arms: Sequence[ArmVerdict] = ()


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
        description="metrics that each may decide the claim; their intervals share an error rate of 5%"
    )
    subject: str = Field("", description="what sentences call the treatment; empty: the names of its arms")
    against: str = Field("", description="what sentences call the reference; empty: the names of its arms")
    delta: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="smallest effect of interest, in the unit of the metrics; none: that of the report",
    )

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

    def lacks(self, table: Table) -> str:
        """What the table would have to hold for the claim to be tested; empty if it is all there."""
        needed = [s for s in self.selectors().values() if not table.select(s)]
        return f"no complete run of {' or of '.join(s.wanted for s in needed)}" if needed else ""

    @final
    def judge(self, table: Table) -> Verdict:
        """The verdict at the table's point of the axes."""
        rule = self.rule(table)
        if lacking := self.lacks(table):
            sentence = f"{self.id} was not tested: {lacking}."
            return Verdict(
                self.id, self.statement, "not tested", rule, notes=(lacking,), point=table.point, sentence=sentence
            )
        found = self.weigh(table)
        return Verdict(
            self.id,
            self.statement,
            found.word,
            rule,
            tuple(found.outcomes),
            tuple(found.arms),
            table.notes(found.used, found.outcomes),
            table.point,
            f"{found.sentence[0].upper()}{found.sentence[1:]} ({self.id} {found.word}.)",
        )

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
        if both := sorted(set(self.treatment.arms) & set(self.reference.arms)):
            yield f"reference: {both[0]!r} is also in the treatment"

    def smallest(self, table: Table) -> float:
        """The smallest effect of interest."""
        return table.delta if self.delta is None else self.delta

    def shared_level(self, tests: int | None = None) -> float:
        """Level of each of several intervals (default: one per metric) that together err in 5% of studies."""
        return 1 - 0.05 / (len(self.metrics) if tests is None else tests)

    def named(self, table: Table) -> tuple[str, str]:
        """What sentences call the treatment and the reference."""
        return self.subject or table.phrase(self.treatment), self.against or table.phrase(self.reference)

    def contrast(self, table: Table) -> str:
        """`mean of constraint arms - unshaped`."""
        return f"{table.mean_of(self.treatment)} - {table.title(self.reference)}"

    @property
    def listed(self) -> str:
        """The metrics in words: `each of deception and hidden gap`, or the one."""
        names = [label(metric) for metric in self.metrics]
        return names[0] if len(names) == 1 else f"each of {', '.join(names[:-1])} and {names[-1]}"
