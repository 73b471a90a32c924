"""The power of a claim: from the replicates that are there, and from what was assumed before they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from launch.report.claims.effects import Comparison, EffectEstimate
from launch.report.claims.table import Table
from launch.report.statistics.power import Kind, Power, Question


class Assumed(Protocol):
    """What was written down before the study ran."""

    @property
    def sd(self) -> float: ...


class HasPower(Protocol):
    """What the power of a claim depends on."""

    @property
    def assumes(self) -> Assumed | None: ...

    @property
    def kind(self) -> Kind: ...

    def comparisons(self, table: Table) -> list[Comparison]: ...

    def smallest(self, table: Table) -> float: ...


def powers(claim: HasPower, table: Table, n: int | None = None) -> list[tuple[Comparison, Power]]:
    """Each deciding contrast of a claim with its power at n replicates (default: those that are there).

    Of several contrasts that may each decide, one must stand out from all (Bonferroni); all must show no effect.
    """
    compared = claim.comparisons(table)
    several = len(compared) if claim.kind in ("effect", "difference") else 1
    found = []
    for each in compared:
        sds = [_sd(table, arm, each) for arm, weight in each.weights.items() if weight]
        if any(math.isnan(sd) for sd in sds) or not (each.from_zero or abs(sum(each.weights.values())) < 1e-9):
            continue  # no contrast: only the arms that a claim uses
        question = Question(
            claim.kind,
            tuple(weight for weight in each.weights.values() if weight),
            tuple(sds),
            claim.smallest(table),
            table.evidence.alpha / several,
            len(set(table.evidence.subjects.values())) or 1,
            bool(each.arm),
        )
        found.append((each, power_of(question, n or table.replicates(each))))
    return found


def assumed_power(claim: HasPower, table: Table, tests: int, n: int) -> Power | None:
    """The power at n replicates of two arms with the standard deviation that the claim assumes."""
    if claim.assumes is None:
        return None
    several = tests if claim.kind in ("effect", "difference") else 1
    subjects = len(set(table.evidence.subjects.values())) or 1
    sds = (claim.assumes.sd, claim.assumes.sd)
    alpha = table.evidence.alpha / max(several, 1)
    question = Question(claim.kind, (1.0, -1.0), sds, claim.smallest(table), alpha, subjects)
    return power_of(question, n, assumed=True)


def power_of(question: Question, n: int, *, assumed: bool = False) -> Power:
    """The answer of one question, with the pooled standard deviation beside it."""
    pooled = math.sqrt(sum(sd**2 for sd in question.sds) / len(question.sds))
    return Power(pooled, n, question.at(n), question.needed(), assumed)


def with_power(claim: HasPower, table: Table, outcomes: Sequence[EffectEstimate]) -> list[EffectEstimate]:
    """The outcomes, each with the power of its contrast."""
    known = {(each.metric, each.name): power for each, power in powers(claim, table)}
    return [replace(o, power=known.get((o.metric, o.contrast))) if o.decides else o for o in outcomes]


def _sd(table: Table, arm: str, compared: Comparison) -> float:
    """Between replicates of one subject, and at least that of the evaluation; nan with fewer than two replicates."""
    column = table.column(arm, compared.metric, compared.arm)
    subjects = {seed: table.evidence.subjects.get(seed, "") for seed in column}
    own = {subject: [column[s] for s in column if subjects[s] == subject] for subject in subjects.values()}
    free = len(column) - len(own)
    if free < 1:
        return math.nan
    squares = sum((value - sum(group) / len(group)) ** 2 for group in own.values() for value in group)
    return math.sqrt(max(squares / free, table.floor(arm, compared.metric)))
