"""Every class of claim reaches every word, from tables made by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from claim_tables import ARMS, TIGHT, WIDE, Means, claim, judged, table
from pydantic import ValidationError
from synthetic_study import config, write_study

from launch.report.claims.arms import ArmSelector
from launch.report.claims.base import NO_CONTROLS, Claim
from launch.report.claims.judge import judge_study, tables
from launch.report.claims.kinds.differs import Differs
from launch.report.claims.kinds.does_not_differ import DoesNotDiffer
from launch.report.claims.kinds.does_not_lower import DoesNotLower
from launch.report.claims.kinds.does_not_raise import DoesNotRaise
from launch.report.claims.kinds.loses_access import LosesAccess
from launch.report.claims.kinds.lowers import Lowers
from launch.report.claims.kinds.raises import Raises
from launch.report.claims.table import Table
from launch.report.claims.verdict import Verdict
from launch.report.files.load import ArmInfo, load
from launch.report.table import values_of

# Raised and lowered ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "mean", "noise", "expected"),
    [
        (Raises, 0.8, TIGHT, "supported"),
        (Raises, 0.5, TIGHT, "contradicted"),
        (Raises, 0.2, TIGHT, "contradicted"),
        (Raises, 0.8, WIDE, "inconclusive"),
        (DoesNotRaise, 0.5, TIGHT, "supported"),
        (DoesNotRaise, 0.2, TIGHT, "supported"),
        (DoesNotRaise, 0.8, TIGHT, "contradicted"),
        (DoesNotRaise, 0.5, WIDE, "inconclusive"),
        (Lowers, 0.2, TIGHT, "supported"),
        (Lowers, 0.5, TIGHT, "contradicted"),
        (Lowers, 0.8, TIGHT, "contradicted"),
        (Lowers, 0.2, WIDE, "inconclusive"),
        (DoesNotLower, 0.5, TIGHT, "supported"),
        (DoesNotLower, 0.8, TIGHT, "supported"),
        (DoesNotLower, 0.2, TIGHT, "contradicted"),
        (DoesNotLower, 0.5, WIDE, "inconclusive"),
        (Differs, 0.8, TIGHT, "supported"),
        (Differs, 0.2, TIGHT, "supported"),
        (Differs, 0.5, TIGHT, "contradicted"),
        (Differs, 0.8, WIDE, "inconclusive"),
        (DoesNotDiffer, 0.5, TIGHT, "supported"),
        (DoesNotDiffer, 0.8, TIGHT, "contradicted"),
        (DoesNotDiffer, 0.2, TIGHT, "contradicted"),
        (DoesNotDiffer, 0.5, WIDE, "inconclusive"),
    ],
)
def test_one_arm_against_the_reference(kind: type[Claim], mean: float, noise: tuple[float, ...], expected: str) -> None:
    found = judged(kind, table({"mask": mean}, noise))
    assert found.verdict == expected
    assert f"(C {expected}.)" in found.sentence
    assert {outcome.contrast for outcome in found.outcomes} == {"mask - unshaped"}
    assert {"supported": "Supported: ", "contradicted": "Contradicted: "}.get(expected, "Else ") in found.rule


@pytest.mark.parametrize(
    ("kind", "word", "mean", "sentence"),
    [
        (Raises, "raised", 0.8, "The mask arm raised deception ("),
        (Lowers, "lowered", 0.2, "The mask arm lowered deception ("),
        (DoesNotRaise, "not raised", 0.5, "The mask arm did not raise deception ("),
        (DoesNotLower, "not lowered", 0.5, "The mask arm did not lower deception ("),
        (Differs, "differs", 0.2, "The mask arm and the unshaped arm differ in deception ("),
        (DoesNotDiffer, "same", 0.5, "The mask arm did the same as the unshaped arm in deception ("),
    ],
)
def test_the_sentence_says_what_the_numbers_say(kind: type[Claim], word: str, mean: float, sentence: str) -> None:
    found = judged(kind, table({"mask": mean}))
    assert [outcome.effect for outcome in found.outcomes] == [word]
    assert found.sentence.startswith(sentence)


@pytest.mark.parametrize("kind", [Raises, DoesNotRaise, Lowers, DoesNotLower, Differs, DoesNotDiffer])
def test_without_a_run_of_one_side_nothing_is_tested(kind: type[Claim]) -> None:
    found = judged(kind, table({"unshaped": 0.5, "*absent": 1.0}))
    assert (found.verdict, found.outcomes) == ("not tested", ())
    assert found.notes == ("no complete run of the arm mask", NO_CONTROLS)
    assert found.reason == "no complete run of the arm mask"
    assert found.sentence == "C was not tested: no complete run of the arm mask."


def test_several_metrics_share_the_error_rate_and_one_is_enough() -> None:
    base = table({"mask": 0.8})
    both = Table({a: {**m, "harm": m["deception"]} for a, m in base.values.items()}, ARMS, 0.05)
    assert [o.level for o in judged(Raises, both, metrics=["deception", "harm"]).outcomes] == [0.9, 0.9]
    flat = Table({a: {**m, "harm": base.values["unshaped"]["deception"]} for a, m in base.values.items()}, ARMS, 0.05)
    assert judged(Raises, flat, metrics=["deception", "harm"]).verdict == "supported"
    assert judged(DoesNotRaise, flat, metrics=["deception", "harm"]).verdict == "contradicted"


def test_a_claim_may_have_a_smallest_effect_of_its_own() -> None:
    """The interval is about [0.025, 0.035]: above zero, and below the report's 0.05."""
    found = table({"mask": 0.53})
    assert judged(Raises, found).verdict == "contradicted"
    assert judged(Raises, found, margin=0.02).verdict == "supported"
    assert "reaches 0.02" in judged(Raises, found, margin=0.02).rule


def test_arms_are_judged_one_by_one_and_never_averaged() -> None:
    found = judged(Raises, table({"mask": 0.8}), treatment={"family": "constraint"})
    assert [outcome.contrast for outcome in found.outcomes] == ["mask - unshaped", "penalty - unshaped"]
    assert found.verdict == "supported"
    assert {arm.arm: arm.verdict for arm in found.arms} == {"mask": "supported", "penalty": "contradicted"}


def test_a_named_control_may_be_treatment_or_reference() -> None:
    found = judged(Lowers, table({"placebo": 0.8, "prompt": 0.5}), treatment="prompt", reference="placebo")
    assert found.verdict == "supported" and found.outcomes[0].contrast == "prompt - placebo"
    assert judged(Raises, table({"placebo": 0.8}), treatment=["placebo"]).verdict == "supported"


def test_a_difference_to_a_control_is_printed_with_both_sides_against_the_reference_arm() -> None:
    found = judged(Differs, table({"placebo": 0.8}), treatment="prompt", reference="placebo")
    assert [(o.contrast, o.decides) for o in found.outcomes] == [
        ("prompt - placebo", True), ("prompt - unshaped", False), ("placebo - unshaped", False),
    ]  # fmt: skip


# Which arms -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("mask", {"mask"}),
        (["mask", "placebo"], {"mask", "placebo"}),
        ({"arms": "placebo"}, {"placebo"}),
        ({"family": "constraint"}, {"mask", "penalty"}),
        ({"family": "motivation"}, {"prompt"}),
        ({"role": "treatment"}, {"mask", "penalty", "prompt"}),
        ({"role": "control"}, {"placebo"}),
        ({"role": "control", "family": "constraint"}, set()),
        ({"role": "positive_control", "family": "motivation"}, {"spiked"}),
        ({"role": "reference"}, {"unshaped"}),
    ],
)
def test_arms_are_selected_by_name_or_by_role_and_family(selector: Any, names: set[str]) -> None:
    chosen = ArmSelector.model_validate(selector)
    assert {arm.name for arm in ARMS if chosen.fits(arm)} == names


def test_arms_are_selected_at_a_value_of_their_axis() -> None:
    arms = [ArmInfo(f"penalty+weight={w}", family="constraint", sweep_point={"weight": w}) for w in (1, 2)]
    assert [a.name for a in arms if ArmSelector(arms=("penalty",), at={"weight": 2}).fits(a)] == ["penalty+weight=2"]
    assert len([a for a in arms if ArmSelector(arms=("penalty",)).fits(a)]) == 2


@pytest.mark.parametrize("selector", [{}, {"arms": "mask", "role": "treatment"}, {"arms": []}, {"role": "placebo"}])
def test_a_selector_says_one_thing(selector: Any) -> None:
    with pytest.raises(ValidationError):
        ArmSelector.model_validate(selector)


def test_controls_are_no_treatment_by_their_role() -> None:
    with pytest.raises(ValidationError, match="give them by name"):
        claim(Raises, treatment={"role": "control"}, metrics=["deception"])


# Reward access --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("means", "noise", "expected"),
    [
        ({"mask": 0.2, "penalty": 0.3}, TIGHT, "supported"),
        ({}, TIGHT, "contradicted"),
        ({"mask": 0.2, "penalty": 0.3, "prompt": 0.2}, TIGHT, "contradicted"),
        ({"mask": 0.2, "penalty": 0.3}, WIDE, "inconclusive"),
    ],
)
def test_loses_access(means: Means, noise: tuple[float, ...], expected: str) -> None:
    found = claim(LosesAccess, treatment={"family": "constraint"}, spared={"family": "motivation"}, context=[]).judge(
        table(means, noise, metric="reward_access")
    )
    assert found.verdict == expected
    assert [round(o.level, 4) for o in found.outcomes] == [0.9, 0.9, 0.9]
    if expected == "supported":
        assert found.sentence.startswith("Constraint arms lost reward access (mask - unshaped: ")
        assert "motivation arms kept reward access (" in found.sentence


def test_loses_access_needs_both_groups() -> None:
    found = claim(LosesAccess, treatment="mask", spared={"family": "mixed"}).judge(table({}, metric="reward_access"))
    assert (found.verdict, found.reason) == ("not tested", "no complete run of a mixed arm")


# In a study -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def verdicts_of(tmp_path: Path) -> Callable[..., dict[str, list[Verdict]]]:
    def judge(claims: dict[str, Any], axes: dict[str, list[Any]]) -> dict[str, list[Verdict]]:
        study = load(write_study(tmp_path / "s", config(seeds=5, axes=axes, claims=claims), episodes=False, updates=2))
        found: dict[str, list[Verdict]] = {}
        for verdict in judge_study(study, values_of(study), 0.05):
            found.setdefault(verdict.claim, []).append(verdict)
        return found

    return judge


AXES = {"train.groups": [2, 4, 8], "arms.action_mask.label": ["a", "b"]}


def test_claims_are_judged_at_every_point_of_the_axes_and_ordered_ones_across_theirs(
    verdicts_of: Callable[..., dict[str, list[Verdict]]],
) -> None:
    said = {"statement": "So.", "treatment": "action_mask", "metrics": ["deception"]}
    found = verdicts_of(
        {
            "across": {"use": "Ordered", "dose": "groups", **said},
            "within": {"use": "Raises", **said},
            "between": {"use": "Interaction", "axis": "groups", "levels": [2, 8], **said},
        },
        AXES,
    )
    assert {name: [v.point for v in verdicts] for name, verdicts in found.items()} == {
        "within": ["groups = 2", "groups = 4", "groups = 8"],
        "across": [""],
        "between": [""],
    }
    assert [len(v.arms) for v in found["within"]] == [2, 2, 2]
    assert not any(v.verdict == "not tested" for verdicts in found.values() for v in verdicts)


def test_a_claim_is_judged_only_at_points_for_which_the_study_plans_its_arms(
    verdicts_of: Callable[..., dict[str, list[Verdict]]],
) -> None:
    said = {"statement": "So.", "metrics": ["deception"]}
    at = {"arms": "action_mask", "at": {"groups": 4}}
    found = verdicts_of(
        {
            "one": {"use": "Raises", "treatment": at, "must": "supported", **said},
            "all": {"use": "Raises", "treatment": "action_mask", "controls": ["one"], **said},
        },
        {"train.groups": [2, 4]},
    )
    assert [v.point for v in found["one"]] == ["groups = 4"]
    assert [v.point for v in found["all"]] == ["groups = 2", "groups = 4"]
    # a control that is judged elsewhere counts everywhere
    assert {v.controls_failed for v in found["all"]} == {() if found["one"][0].behaved else ("one",)}


def test_a_point_whose_reference_is_missing_is_not_tested(tmp_path: Path) -> None:
    study = config(seeds=5, axes={"train.groups": [2, 4]})
    absent = [("unshaped+groups=4", seed) for seed in range(5)]
    read = load(write_study(tmp_path / "s", study, episodes=False, updates=2, absent=absent))
    found = [v for v in judge_study(read, values_of(read), 0.05) if v.claim == "H1"]
    assert [(v.point, v.verdict) for v in found] == [("groups = 2", "supported"), ("groups = 4", "not tested")]
    assert len(tables(read, values_of(read), 0.05, ["groups"])) == 1
