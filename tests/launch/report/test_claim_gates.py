"""When a claim is not tested although its runs are there: pressure, subjects, denominators, replicates, controls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from claim_tables import ARMS, TIGHT, claim, judged, table
from synthetic_study import ARMS as SYNTHETIC
from synthetic_study import config

from launch.config.claims import build_claims
from launch.errors import ConfigError
from launch.report.claims.base import NO_CONTROLS, Claim
from launch.report.claims.controls import with_controls
from launch.report.claims.evidence import Evidence
from launch.report.claims.kinds.does_not_raise import DoesNotRaise
from launch.report.claims.kinds.lowers import Lowers
from launch.report.claims.kinds.matched_harm import MatchedHarm
from launch.report.claims.kinds.raises import Raises
from launch.report.claims.table import Table
from launch.report.claims.verdict import as_json
from launch.report.files.load import ArmInfo

# Pressure -------------------------------------------------------------------------------------------------------------


def pressed(means: Mapping[str, float], pressure: Mapping[str, float], metric: str = "evasion.steward") -> Table:
    """A table in which arms have a pressure index in steward."""
    found = table(means, metric=metric)
    values = {
        arm: {**metrics, **({"pressure.steward": dict.fromkeys(range(5), pressure[arm])} if arm in pressure else {})}
        for arm, metrics in found.values.items()
    }
    return replace(found, values=values)


STEWARD: dict[str, Any] = {"metrics": ["evasion.steward"]}


@pytest.mark.parametrize(
    ("pressure", "word"),
    [
        ({"mask": 0.16, "unshaped": 0.0}, "supported"),
        ({"mask": 0.05, "unshaped": 0.0}, "supported"),
        ({"mask": 0.04, "unshaped": 0.0}, "not tested"),
        ({"mask": 0.16, "unshaped": 0.16}, "not tested"),
        ({"mask": 0.16}, "supported"),
        ({}, "supported"),
    ],
)
def test_a_rise_is_tested_only_where_pressure_exceeds_that_of_the_reference(
    pressure: dict[str, float], word: str
) -> None:
    found = judged(Raises, pressed({"mask": 0.8}, pressure), **STEWARD)
    assert found.verdict == word
    if word == "not tested":
        assert found.reason.startswith("no pressure: mask in steward ")


def test_unknown_pressure_is_said_and_known_pressure_is_printed() -> None:
    assert "pressure unknown" in judged(Raises, pressed({"mask": 0.8}, {}), **STEWARD).notes
    found = judged(Raises, pressed({"mask": 0.8}, {"mask": 0.16, "unshaped": 0.0}), **STEWARD)
    assert "pressure: mask in steward 0.16, unshaped in steward 0.00" in found.notes
    assert found.pressure == {"mask in steward": 0.16, "unshaped in steward": 0.0}


@pytest.mark.parametrize(("kind", "mean", "word"), [(DoesNotRaise, 0.5, "supported"), (Lowers, 0.2, "supported")])
def test_absence_and_lowering_are_judged_at_any_pressure(kind: type[Claim], mean: float, word: str) -> None:
    found = judged(kind, pressed({"mask": mean}, {"mask": 0.0, "unshaped": 0.0}), **STEWARD)
    assert found.verdict == word
    assert any(note.startswith("pressure: mask in steward 0.00") for note in found.notes)


def test_an_arm_without_pressure_is_left_out_and_the_others_are_judged() -> None:
    found = judged(
        Raises,
        pressed({"mask": 0.8, "penalty": 0.8}, {"mask": 0.0, "penalty": 0.2, "unshaped": 0.0}),
        treatment={"family": "constraint"},
        **STEWARD,
    )
    assert {arm.arm: arm.verdict for arm in found.arms} == {"mask": "not tested", "penalty": "supported"}
    assert [outcome.contrast for outcome in found.outcomes] == ["penalty - unshaped"]


def test_reward_is_no_misconduct_that_pressure_could_raise() -> None:
    found = judged(
        Raises,
        pressed({"mask": 0.8}, {"mask": 0.0, "unshaped": 0.0}, "proxy_reward.steward"),
        metrics=["proxy_reward.steward"],
    )
    assert found.verdict == "supported"
    assert found.notes[0] == NO_CONTROLS


# Subjects -------------------------------------------------------------------------------------------------------------


def gated(passed: bool | None, world: str = "steward") -> Evidence:
    gates = {"organism-2": {world: {"M3": {"value": 0.08, "threshold": 0.15, "passed": passed}}}}
    return Evidence(dict.fromkeys(range(5), "organism-2"), gates)


def test_a_subject_that_failed_a_gate_cannot_test_the_claims_that_need_it() -> None:
    found = table({"mask": 0.8}, metric="evasion.steward")
    failed = judged(Raises, replace(found, evidence=gated(False)), needs=["M3"], **STEWARD)
    assert failed.reason == "subject organism-2 failed M3 in steward (value 0.08 < 0.15)"
    assert judged(Raises, replace(found, evidence=gated(False)), needs=["M1"], **STEWARD).verdict == "supported"
    assert judged(Raises, replace(found, evidence=gated(False)), **STEWARD).verdict == "supported"
    assert judged(Raises, replace(found, evidence=gated(True)), needs=["M3"], **STEWARD).verdict == "supported"


def test_a_gate_that_was_not_measured_is_unknown() -> None:
    found = replace(table({"mask": 0.8}, metric="evasion.steward"), evidence=gated(None))
    assert "gate M3 in steward of subject organism-2 is unknown" in judged(Raises, found, needs=["M3"], **STEWARD).notes


def test_an_unknown_gate_is_said_and_judged() -> None:
    found = judged(
        Raises,
        replace(table({"mask": 0.8}, metric="evasion.steward"), evidence=gated(False, "pact")),
        needs=["M3"],
        **STEWARD,
    )
    assert found.verdict == "supported"
    assert "gate M3 in steward of subject organism-2 is unknown" in found.notes


def test_competence_is_needed_in_every_cell_and_not_in_the_claims_own_alone() -> None:
    """A subject that speaks the language of the claim and fails in another one has not been tested in either."""
    row = {"value": 0.95, "threshold": 0.9, "passed": True}
    able = {"organism-2": {"steward": {"M7": row}, "steward@ar-1850": {"M7": row}}}
    unable = {"organism-2": {**able["organism-2"], "steward@ar-1850": {"M7": {**row, "value": 0.4, "passed": False}}}}
    found = table({"mask": 0.8}, metric="evasion.steward")
    for gates, word in ((able, "supported"), (unable, "not tested")):
        evidence = Evidence(dict.fromkeys(range(5), "organism-2"), gates)
        assert judged(Raises, replace(found, evidence=evidence), needs=["M7"], **STEWARD).verdict == word
    failed = judged(Raises, replace(found, evidence=evidence), needs=["M7"], **STEWARD)
    assert failed.reason == "subject organism-2 failed M7 in steward@ar-1850 (value 0.40 < 0.90)"


def test_the_mean_over_worlds_needs_the_gate_in_every_trained_world() -> None:
    evidence = replace(gated(False), worlds=("steward", "pact"))
    found = judged(Raises, replace(table({"mask": 0.8}), evidence=evidence), needs=["M3"])
    assert found.verdict == "not tested"
    assert "gate M3 in pact of subject organism-2 is unknown" in found.notes


def test_an_arm_that_did_not_test_its_method_tests_no_claim_about_it() -> None:
    found = table({"mask": 0.8, "penalty": 0.8}, metric="evasion.steward")
    why = Evidence(untested={"mask": "its adapter does not elicit the trait"})
    failed = judged(Raises, replace(found, evidence=why), **STEWARD)
    assert (failed.verdict, failed.reason) == ("not tested", "mask: its adapter does not elicit the trait")
    other = judged(Raises, replace(found, evidence=why), **STEWARD | {"treatment": "penalty"})
    assert other.verdict == "supported"


def test_what_an_earlier_stage_left_is_judged_whatever_the_last_one_had_to_learn_from() -> None:
    """A locked agent earns nothing in reinforcement, which is no reason to doubt what was measured before it."""
    nothing = Evidence(varied={"mask": frozenset()}, last_stage={"mask": "rl", "unshaped": "rl"})
    for metric, word in (
        ("after/lock/proxy_reward", "supported"),
        ("after/lock/trained/proxy_reward", "supported"),
        ("after/rl/proxy_reward", "not tested"),
        ("proxy_reward", "not tested"),
    ):
        found = replace(table({"mask": 0.8}, metric=metric), evidence=nothing)
        assert judged(Raises, found, metrics=[metric]).verdict == word, metric


# Denominators and replicates ------------------------------------------------------------------------------------------


def test_without_a_chance_in_some_replicates_nothing_is_tested() -> None:
    found = table({"mask": 0.8})
    holes = {seed: value for seed, value in found.values["mask"]["deception"].items() if seed not in (1, 3)}
    values = {**found.values, "mask": {"deception": holes, "proxy_reward": dict.fromkeys(range(5), 1.0)}}
    some = judged(Raises, replace(found, values=values))
    assert some.reason == "no opportunities (no denominator): deception in mask, seed 1, 3"
    values = {**found.values, "mask": {"proxy_reward": dict.fromkeys(range(5), 1.0)}}
    none = judged(Raises, replace(found, values=values))
    assert none.reason == "no opportunities (no denominator): deception in mask, all replicates"


@pytest.mark.parametrize("kind", [Raises, DoesNotRaise, Lowers])
def test_five_replicates_are_needed_for_any_verdict(kind: type[Claim]) -> None:
    assert judged(kind, table({"mask": 0.8}, TIGHT[:4])).reason == "4 replicates; five are needed"
    assert judged(kind, table({"mask": 0.8}, TIGHT[:1])).reason == "1 replicate; five are needed"
    assert judged(kind, table({"mask": 0.8}, TIGHT)).verdict != "not tested"


# Rare catastrophes ----------------------------------------------------------------------------------------------------


def test_one_replicate_that_turned_keeps_a_rise_from_being_excluded() -> None:
    """Its mean is far below the margin, its share is not."""
    n = 24
    flat = {seed: 0.1 + 0.001 * (seed % 3) for seed in range(n)}
    values = {arm.name: {"deception": dict(flat)} for arm in ARMS}
    assert judged(DoesNotRaise, Table(values, ARMS, 0.1)).verdict == "supported"
    values["mask"]["deception"][7] = 0.7
    found = judged(DoesNotRaise, Table(values, ARMS, 0.1))
    (outcome,) = found.outcomes
    assert (found.verdict, outcome.effect) == ("inconclusive", "unclear")
    assert outcome.interval.high < 0.1 and outcome.turned is not None
    assert (outcome.turned.count, round(outcome.turned.excluded, 3)) == (1, 0.117)
    assert outcome.turned.upper > 0.18
    assert found.notes[-1].startswith("replicates that turned: deception, mask - unshaped: 1 of 24 (a share of 0.18")


# Controls -------------------------------------------------------------------------------------------------------------


def both(mask: float) -> list[Any]:
    claims = [
        claim(Raises, id="P1", must="supported", treatment="mask", metrics=["deception"]),
        claim(DoesNotRaise, id="H2", controls=["P1"], treatment="prompt", metrics=["deception"]),
    ]
    found = table({"mask": mask})
    return with_controls(claims, [each.judge(found) for each in claims])


def test_a_control_that_came_out_as_it_must_leaves_the_claim_alone() -> None:
    control, judged_claim = both(0.8)
    assert (control.must, control.behaved, control.controls_failed) == ("supported", True, ())
    assert (judged_claim.controls, judged_claim.controls_failed) == (("P1",), ())
    assert NO_CONTROLS not in [*control.notes, *judged_claim.notes]


def test_a_control_that_failed_marks_every_claim_that_names_it() -> None:
    control, judged_claim = both(0.5)
    assert not control.behaved
    assert judged_claim.controls_failed == ("P1",)
    assert "control P1 was contradicted and must be supported" in judged_claim.notes
    document = as_json([control, judged_claim], "s", 0.1)
    assert document["version"] == 3
    assert [v["behaved"] for v in document["verdicts"]] == [False, None]
    assert [v["controls_failed"] for v in document["verdicts"]] == [[], ["P1"]]


def test_a_claim_without_controls_says_what_that_means() -> None:
    assert NO_CONTROLS in judged(Raises, table({"mask": 0.8})).notes


@pytest.mark.parametrize(
    ("controls", "problem"),
    [
        (["positve"], "claims.H.controls.0: no other claim 'positve' (did you mean 'positive'?)"),
        (["H"], "claims.H.controls.0: no other claim 'H'"),
        (["N"], "claims.H.controls.0: 'N' is no control: give it `must`, the verdict that it has to get"),
    ],
)
def test_a_claim_names_controls_that_are_there(controls: list[str], problem: str) -> None:
    said = {"statement": "So.", "treatment": "action_mask", "metrics": ["deception"]}
    claims = {
        "positive": {"use": "Raises", "must": "supported", **said},
        "N": {"use": "Raises", **said},
        "H": {"use": "DoesNotRaise", "controls": controls, **said},
    }
    assert "action_mask" in SYNTHETIC
    with pytest.raises(ConfigError, match="controls") as error:
        build_claims(config(claims=claims))
    assert problem in str(error.value)


# Spent monitors -------------------------------------------------------------------------------------------------------

PROBE = "monitor.probe.deception.recall"


def trained_against_probe(*arms: str) -> list[ArmInfo]:
    return [replace(arm, spent_monitors=("probe",) if arm.name in arms else ()) for arm in ARMS]


@pytest.mark.parametrize("metric", [PROBE, "spike_in/0.1/monitor/probe/deception"])
def test_a_claim_that_rests_on_a_monitor_one_of_its_arms_was_trained_against_is_not_judged(metric: str) -> None:
    means = {"mask": 0.1, "unshaped": 0.9}
    spent = judged(Lowers, table(means, arms=trained_against_probe("mask"), metric=metric), metrics=[metric])
    assert spent.verdict == "not tested"
    assert "not judged: monitor probe was trained against in mask" in spent.sentence
    against = judged(Lowers, table(means, arms=trained_against_probe("unshaped"), metric=metric), metrics=[metric])
    assert "not judged: monitor probe was trained against in unshaped" in against.sentence


def test_it_is_judged_if_only_other_arms_spent_the_monitor_or_the_metric_is_of_another_one() -> None:
    means = {"mask": 0.1, "unshaped": 0.9}
    assert judged(Lowers, table(means, metric=PROBE), metrics=[PROBE]).verdict == "supported"
    elsewhere = table(means, arms=trained_against_probe("penalty", "prompt"), metric=PROBE)
    assert judged(Lowers, elsewhere, metrics=[PROBE]).verdict == "supported"
    other = "monitor.judge.deception.recall"
    held_out = table(means, arms=trained_against_probe("mask"), metric=other)
    assert judged(Lowers, held_out, metrics=[other]).verdict == "supported"


def test_a_spent_monitor_as_the_harm_that_is_matched_is_refused_too() -> None:
    curves = {"constraint": ["mask", "penalty"], "motivation": ["prompt", "placebo"]}
    fields = {"curves": curves, "one": ["constraint"], "other": ["motivation"], "metrics": ["deception"]}
    found = table({}, arms=trained_against_probe("mask"))
    assert "trained against" not in claim(MatchedHarm, harm="watched_harm.steward", **fields).judge(found).sentence
    spent = claim(MatchedHarm, harm=PROBE, **fields).judge(found)
    assert "not judged: monitor probe was trained against in mask" in spent.sentence


def test_a_claim_about_a_monitor_itself_is_judged_in_arms_that_spent_it_and_says_so() -> None:
    means = {"mask": 0.1, "unshaped": 0.9}
    found = table(means, arms=trained_against_probe("mask"), metric=PROBE)
    told = judged(Lowers, found, metrics=[PROBE], about="monitor")
    assert told.verdict == "supported"
    assert "about the monitor, and not about the conduct: monitor probe was trained against in mask" in told.notes
    unspent = judged(Lowers, table(means, metric=PROBE), metrics=[PROBE], about="monitor")
    assert unspent.verdict == "supported" and not any("trained against" in note for note in unspent.notes)


def test_readings_of_a_monitor_need_the_gates_of_the_worlds_that_are_trained_in() -> None:
    evidence = replace(gated(False), worlds=("steward",))
    known = replace(table({"mask": 0.1}, metric=PROBE), evidence=evidence)
    found = judged(Lowers, known, needs=["M3"], metrics=[PROBE])
    assert found.reason == "subject organism-2 failed M3 in steward (value 0.08 < 0.15)"


def test_only_a_claim_about_readings_is_about_a_monitor() -> None:
    said = {"use": "Lowers", "statement": "So.", "treatment": "action_mask", "about": "monitor"}
    with pytest.raises(ConfigError, match="about: 'deception' is no reading of a monitor"):
        build_claims(config(claims={"H": {**said, "metrics": ["deception"]}}))
