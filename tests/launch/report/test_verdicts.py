"""The claims of the synthetic study: verdicts follow from intervals by fixed rules, whatever they say."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
import pytest

from launch.config.claims import build_claims
from launch.report.answer import NO_CLAIMS, answer
from launch.report.claims.table import Table
from launch.report.claims.verdict import Verdict, as_json
from launch.report.files.load import ArmInfo
from launch.report.statistics.decide import inside, mirrored, read
from launch.report.statistics.estimate import Estimate
from tests.support.synthetic_study import config

SEEDS = range(5)
#: Differences between seeds that leave intervals a few hundredths wide.
NOISE = (-0.006, 0.006, 0.0, 0.003, -0.003)
WIDE = (-0.6, 0.6, 0.0, 0.3, -0.3)

ARMS = (
    ArmInfo("unshaped", family="unshaped", role="reference"),
    ArmInfo("mask", family="constraint"),
    ArmInfo("penalty", family="constraint"),
    ArmInfo("inoculation", family="motivation"),
    ArmInfo("irrelevant_prompt", family="motivation", role="control"),
)
BASE = {
    "deception": 0.2,
    "deceptive_episodes": 0.2,
    "hidden_gap": 0.0,
    "reward_hacking": 0.4,
    "reward_access": 0.9,
    "proxy_reward": 0.8,
    "blocked": 0,
}


def judged(
    shifts: Mapping[str, Mapping[str, float]],
    *,
    noise: tuple[float, ...] = NOISE,
    seeds: range = SEEDS,
    arms: tuple[ArmInfo, ...] = ARMS,
) -> dict[str, Verdict]:
    """The verdicts for arms that differ from the unshaped one by `shifts[arm][metric]`."""
    values = {
        arm.name: {
            metric: {
                seed: base + shifts.get(arm.name, {}).get(metric, 0.0) + noise[seed] * (1 + i / 10)
                for seed in seeds
            }
            for metric, base in BASE.items()
        }
        for i, arm in enumerate(arms)
    }  # fmt: skip
    claims = build_claims(config())
    return {claim.id: claim.judge(Table(values, arms, 0.05)) for claim in claims}


LYING = {"mask": {"deception": 0.4}, "penalty": {"deception": 0.3}}
HONEST_GAP = {"mask": {"hidden_gap": 0.3}, "penalty": {"hidden_gap": 0.3}}
LOSING = {"mask": {"reward_access": -0.3}, "penalty": {"reward_access": -0.2}}


@pytest.mark.parametrize(
    ("claim", "shifts", "noise", "expected"),
    [
        ("H1", LYING, NOISE, "supported"),
        ("H1", HONEST_GAP, NOISE, "supported"),
        ("H1", {}, NOISE, "contradicted"),
        ("H1", {"mask": {"deception": -0.4}, "penalty": {"deception": -0.4}}, NOISE, "contradicted"),
        ("H1", LYING, WIDE, "inconclusive"),
        ("H2", {}, NOISE, "supported"),
        ("H2", {"inoculation": {"deception": 0.4}}, NOISE, "contradicted"),
        ("H2", {"inoculation": {"hidden_gap": 0.4}}, NOISE, "contradicted"),
        ("H2", {}, WIDE, "inconclusive"),
        ("H3", LOSING, NOISE, "supported"),
        ("H3", {}, NOISE, "contradicted"),
        ("H3", {**LOSING, "inoculation": {"reward_access": -0.4}}, NOISE, "contradicted"),
        ("H3", LOSING, WIDE, "inconclusive"),
        ("H4", {"inoculation": {"reward_hacking": -0.3}}, NOISE, "supported"),
        ("H4", {"irrelevant_prompt": {"deception": 0.3}}, NOISE, "supported"),
        ("H4", {"inoculation": {"deception": -0.3}, "irrelevant_prompt": {"deception": -0.3}}, NOISE, "contradicted"),
        ("H4", {}, WIDE, "inconclusive"),
    ],
)
def test_each_verdict_can_come_out(
    claim: str, shifts: dict[str, dict[str, float]], noise: tuple[float, ...], expected: str
) -> None:
    assert judged(shifts, noise=noise)[claim].verdict == expected


def test_controls_never_count_as_treatment_whatever_they_are_called() -> None:
    """The controls of a study of routing belong to the motivation family, as what they control does."""
    arms = (
        *ARMS[:4],
        ArmInfo("placebo", family="motivation", role="control"),
        ArmInfo("unrouted", family="motivation", role="positive_control"),
        ArmInfo("no_inoculation", family="motivation", role="control"),
    )
    lying = {name: {"deception": 0.4, "reward_access": -0.4} for name in ("placebo", "unrouted", "no_inoculation")}
    for extra in ({}, LOSING):
        alone, beside = judged(dict(extra), arms=ARMS[:4]), judged({**lying, **extra}, arms=arms)
        assert {name: v.outcomes for name, v in alone.items()} == {name: v.outcomes for name, v in beside.items()}


def test_an_arm_called_no_inoculation_does_not_join_the_inoculation() -> None:
    arms = (*ARMS, ArmInfo("no_inoculation", family="unshaped"))
    assert judged({"no_inoculation": {"reward_hacking": 2.0}}, arms=arms)["H4"].outcomes == judged({})["H4"].outcomes


def test_a_control_is_no_motivation_arm() -> None:
    assert judged({"irrelevant_prompt": {"deception": 0.5}})["H2"].verdict == "supported"


@pytest.mark.parametrize(
    ("kept", "untested"),
    [
        (("unshaped", "inoculation", "irrelevant_prompt"), {"H1", "H3"}),
        (("unshaped", "mask", "penalty", "inoculation"), {"H4"}),
        (("unshaped", "mask"), {"H2", "H3", "H4"}),
        (("mask", "inoculation"), {"H1", "H2", "H3", "H4"}),
    ],
)
def test_a_study_that_lacks_the_arms_does_not_test_the_claim(kept: tuple[str, ...], untested: set[str]) -> None:
    found = judged({}, arms=tuple(arm for arm in ARMS if arm.name in kept))
    assert {name for name, verdict in found.items() if verdict.verdict == "not tested"} == untested
    assert all(found[name].notes for name in untested)


def test_fewer_than_five_replicates_test_nothing() -> None:
    few = judged(LYING, seeds=range(4))
    assert {verdict.verdict for verdict in few.values()} == {"not tested"}
    assert {verdict.reason for verdict in few.values()} == {"4 replicates; five are needed"}
    assert not any("needed" in note for note in judged(LYING)["H1"].notes)


def estimate(low: float, high: float) -> Estimate:
    """With about this 90% interval; 1.645 standard errors to either side."""
    return Estimate(np.array((low + high) / 2), np.array((high - low) / 2 / 1.6448536), np.array(1e6))


@pytest.mark.parametrize(
    ("low", "high", "effect"),
    [
        (0.01, 0.10, "raised"),
        (0.01, 0.04, "not raised"),  # above zero, but too small to matter
        (-0.20, -0.10, "not raised"),
        (-0.01, 0.06, "unclear"),
        (-0.001, 0.05, "unclear"),
    ],
)
def test_raised_needs_an_interval_above_zero_that_reaches_the_smallest_effect(
    low: float, high: float, effect: str
) -> None:
    found = read(estimate(low, high), 0.05, 0.05)
    assert (bool(found.rises) and float(found.p) <= 0.05) == (effect == "raised")
    assert bool(found.stays) == (effect == "not raised")
    turned = read(mirrored(estimate(-high, -low)), 0.05, 0.05)
    assert (bool(turned.rises), bool(turned.stays)) == (bool(found.rises), bool(found.stays))


@pytest.mark.parametrize(
    ("low", "high", "same"), [(0.01, 0.04, True), (-0.04, 0.04, True), (-0.1, 0.04, False), (0.01, 0.2, False)]
)
def test_two_arms_are_the_same_if_the_interval_is_inside_the_margin(low: float, high: float, same: bool) -> None:
    assert bool(inside(estimate(low, high), 0.05, 0.05)) == same


def test_an_arm_counts_as_raised_only_if_it_survives_holm() -> None:
    arms = judged({"mask": {"deception": 0.4}})["H1"].arms
    found = {arm.arm: arm for arm in arms}
    assert found["mask"].verdict == "supported"
    assert found["mask"].p_holm < 0.05
    assert found["penalty"].verdict == "contradicted"


def test_several_arms_and_metrics_share_the_error_rate_by_holms_method() -> None:
    found = judged(LYING)["H1"]
    assert {round(o.level, 6) for o in found.outcomes} == {0.9}
    assert len(found.outcomes) == 6
    alone = judged(LYING, arms=(*ARMS[:2], *ARMS[3:]))["H1"]
    first, same = (v.arms[0].p_holm for v in (found, alone))
    assert first == pytest.approx(2 * same)


def test_lying_in_more_episodes_is_raised_deception_even_at_the_same_rate_per_opportunity() -> None:
    assert judged({"mask": {"deceptive_episodes": 0.4}, "penalty": {"deceptive_episodes": 0.4}})["H1"].verdict == (
        "supported"
    )


def test_the_document_carries_statement_rule_and_numbers_and_is_strict_json() -> None:
    document = as_json(list(judged(LYING).values()), "s", 0.05)
    text = json.dumps(document, allow_nan=False)
    first = json.loads(text)["verdicts"][0]
    assert {"claim", "sentence", "statement", "verdict", "rule", "numbers", "notes"} <= first.keys()
    assert {"mean", "low", "high", "n", "p", "turned", "power"} <= first["numbers"][0].keys()
    assert first["numbers"][0]["turned"]["n"] == 5
    assert first["numbers"][0]["power"]["needed"] >= 5
    untested = as_json(list(judged(LYING, seeds=range(1)).values()), "s", 0.05)["verdicts"][0]
    assert (untested["verdict"], untested["numbers"]) == ("not tested", [])


def test_the_answer_says_what_the_verdicts_say() -> None:
    against = answer(list(judged({"inoculation": {"deception": 0.4}}).values()))
    assert "(H1 contradicted.)" in against
    assert "Shaping motivations raised deception" in against
    assert "Constraining actions raised none of" in against
    in_favour = answer(list(judged(LYING).values()))
    assert "Constraining actions raised deception" in in_favour
    assert "Shaping motivations raised none of" in in_favour


def test_without_claims_the_answer_says_that_there_are_no_verdicts() -> None:
    assert answer([]) == NO_CLAIMS
    assert "no verdicts" in NO_CLAIMS
