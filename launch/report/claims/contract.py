"""Does a claim keep its contract? It judges tables made by hand, of arms of every role and family."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from envs.check import RuleResult
from envs.text import message_of
from launch.report.claims.base import Claim, ClaimError, comparisons_of, finding_of, rule_of
from launch.report.claims.table import Table
from launch.report.files.load import ArmInfo

#: What each rule demands, in the order of `check_claim`.
CLAIM_RULES: Final = {
    "rule": "rule() says in words when the claim is supported",
    "comparisons": "comparisons() gives contrasts of arms that the table has",
    "weigh": "weigh() gives a Finding: a word, numbers, a sentence, and the arms whose runs it used",
    "judges": "a table is judged, whichever way its numbers point, and one without a run is not tested",
    "pure": "asked twice about the same table, it answers the same",
}
_ARMS: Final = (
    ArmInfo("unshaped", family="unshaped", role="reference"),
    ArmInfo("shaped", family="motivation"),
    ArmInfo("constrained", family="constraint"),
    ArmInfo("placebo", family="motivation", role="control"),
)
_NOISE: Final = (-0.02, 0.02, 0.0, 0.01, -0.01)


def check_claim(make: Callable[[Mapping[str, Any]], Claim]) -> list[RuleResult]:
    """Try what `make` builds from the fields that every claim has. Where it compares across axes, it is not tested."""
    claim = make({"id": "C1", "statement": "It is so.", "metrics": ["deception"]})
    tables = [_table(shaped) for shaped in (0.1, 0.5, 0.9)]
    return [
        _result("rule", (_fault(partial(rule_of, claim, each)) for each in tables)),
        _result("comparisons", (_fault(partial(comparisons_of, claim, each)) for each in tables)),
        _result("weigh", (_fault(partial(finding_of, claim, each)) for each in tables)),
        _result("judges", _judged(claim, tables)),
        _result("pure", ("" if claim.judge(t) == claim.judge(t) else "judge() gave two verdicts" for t in tables)),
    ]


def _table(shaped: float) -> Table:
    means = {"unshaped": 0.5, "shaped": shaped, "constrained": 1 - shaped, "placebo": 0.5}
    values = {
        arm: {"deception": {seed: mean + (1 + place / 10) * each for seed, each in enumerate(_NOISE)}}
        for place, (arm, mean) in enumerate(means.items())
    }
    return Table(values, _ARMS, 0.05)


def _judged(claim: Claim, tables: Sequence[Table]) -> Iterator[str]:
    for table in tables:
        yield _fault(partial(claim.judge, table))
    nothing = replace(tables[0], values={})
    if (word := claim.judge(nothing).verdict) != "not tested":
        yield f"a table without any run is {word}"


def _fault(ask: Callable[[], Any]) -> str:
    try:
        ask()
    except ClaimError as error:
        return str(error)
    return ""


def _result(rule: str, faults: Iterator[str]) -> RuleResult:
    try:
        fault = next((fault for fault in faults if fault), "")
    except Exception as error:
        fault = f"raised {type(error).__name__}: {message_of(error)}"
    return RuleResult(rule, not fault, fault or "ok")
