"""Claims about doses, and about two factors at once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from claim_tables import TIGHT, WIDE, Means, claim, table
from pydantic import ValidationError

from launch.config.arms.factorial import name_of, subsets
from launch.report.claims.kinds.factorial import Factorial, effect_weights
from launch.report.claims.kinds.interaction import Interaction
from launch.report.claims.kinds.ordered import Ordered
from launch.report.files.load import ArmInfo
from launch.report.statistics.estimate import Design
from shaping.audits.intervals import holm

# Dose and response ----------------------------------------------------------------------------------------------------

DOSES = {"unshaped": 0, "mask": 1, "penalty": 2}


@pytest.mark.parametrize(
    ("means", "noise", "direction", "expected"),
    [
        ({"mask": 0.7, "penalty": 0.9}, TIGHT, "up", "supported"),
        ({}, TIGHT, "up", "contradicted"),
        ({"mask": 0.3, "penalty": 0.1}, TIGHT, "up", "contradicted"),
        ({"mask": 1.0, "penalty": 0.8}, TIGHT, "up", "inconclusive"),  # more than without, but the last step turns back
        ({"mask": 0.7, "penalty": 0.9}, WIDE, "up", "inconclusive"),
        ({"mask": 0.3, "penalty": 0.1}, TIGHT, "down", "supported"),
        ({"mask": 0.7, "penalty": 0.9}, TIGHT, "down", "contradicted"),
        ({"mask": 0.1, "penalty": 0.3}, TIGHT, "down", "inconclusive"),
    ],
)
def test_ordered_by_a_number_per_arm(means: Means, noise: tuple[float, ...], direction: str, expected: str) -> None:
    found = claim(Ordered, dose=DOSES, direction=direction, metrics=["deception"]).judge(table(means, noise))
    assert found.verdict == expected
    assert [o.contrast for o in found.outcomes] == ["fitted change, dose 0 to 2", "dose 1 - 0", "dose 2 - 1"]
    verbs = {"supported": " rose", "contradicted": " did not rise"} if direction == "up" else {"supported": " fell"}
    assert verbs.get(expected, "") in found.sentence


def test_the_fitted_change_is_that_of_a_straight_line() -> None:
    found = claim(Ordered, dose=DOSES, metrics=["deception"]).judge(table({"mask": 0.7, "penalty": 0.8}, (0.0,) * 5))
    assert found.outcomes[0].interval.mean == pytest.approx(0.3)
    unequal = claim(Ordered, dose={**DOSES, "penalty": 4}, metrics=["deception"])
    # Least squares by hand: doses 0, 1, 4 around 5/3; slope (0.2 * -2/3 + 0.3 * 7/3) / (26/3).
    assert unequal.judge(table({"mask": 0.7, "penalty": 0.8}, (0.0,) * 5)).outcomes[0].interval.mean == pytest.approx(
        4 * (0.2 * (-2 / 3) + 0.3 * (7 / 3)) / (26 / 3)
    )


def swept(axis: str, values: Sequence[float], *, with_reference: bool) -> list[ArmInfo]:
    """`penalty` at each value of an axis, and one reference arm, or one at each value."""
    point = [{axis: value} for value in values]
    arms = [
        ArmInfo(f"penalty+{axis}={v}", family="constraint", sweep_point=p) for v, p in zip(values, point, strict=True)
    ]
    if not with_reference:
        return [ArmInfo("unshaped", role="reference"), *arms]
    own = [ArmInfo(f"unshaped+{axis}={v}", role="reference", sweep_point=p) for v, p in zip(values, point, strict=True)]
    return [*own, *arms]


@pytest.mark.parametrize("with_reference", [False, True])
def test_ordered_over_an_axis_is_of_the_difference_to_the_reference_at_the_same_dose(with_reference: bool) -> None:
    arms = swept("weight", [1, 2, 4], with_reference=with_reference)
    means = {f"penalty+weight={w}": 0.5 + 0.1 * w for w in (1, 2, 4)} | {
        f"unshaped+weight={w}": 0.1 * w for w in (1, 2, 4)
    }
    dose = claim(Ordered, dose="weight", treatment="penalty", metrics=["deception"])
    assert dose.axes == ("weight",)
    found = dose.judge(table(means, (0.0,) * 5, arms))
    assert found.outcomes[0].interval.mean == pytest.approx(0.0 if with_reference else 0.3)
    itself = claim(Ordered, dose="weight", treatment="penalty", metrics=["deception"], relative=False)
    assert itself.judge(table(means, (0.0,) * 5, arms)).outcomes[0].interval.mean == pytest.approx(0.3)


def test_ordered_needs_every_dose() -> None:
    lacking = table({"unshaped": 0.5, "mask": 0.7, "*absent": 1})
    found = claim(Ordered, dose=DOSES, metrics=["deception"]).judge(lacking)
    assert (found.verdict, found.reason) == ("not tested", "no complete run at dose 2")
    arms = swept("weight", [1, 2], with_reference=False)
    few = claim(Ordered, dose="weight", treatment="penalty", metrics=["deception"]).judge(table({}, arms=arms))
    assert few.reason == "3 doses at least are needed, and there are 2"


# Interaction ----------------------------------------------------------------------------------------------------------

FACTORS = {"treatment": "spiked", "first": "mask", "second": "placebo"}


@pytest.mark.parametrize(
    ("means", "noise", "direction", "expected"),
    [
        ({"mask": 0.6, "placebo": 0.7, "spiked": 1.2}, TIGHT, "either", "supported"),
        ({"mask": 0.6, "placebo": 0.7, "spiked": 0.8}, TIGHT, "either", "contradicted"),
        ({"mask": 0.6, "placebo": 0.7, "spiked": 0.95}, WIDE, "either", "inconclusive"),
        ({"mask": 0.6, "placebo": 0.7, "spiked": 1.2}, TIGHT, "up", "supported"),
        ({"mask": 0.6, "placebo": 0.7, "spiked": 1.2}, TIGHT, "down", "contradicted"),
        ({"mask": 0.6, "placebo": 0.7, "spiked": 0.4}, TIGHT, "down", "supported"),
    ],
)
def test_interaction_of_two_treatments(means: Means, noise: tuple[float, ...], direction: str, expected: str) -> None:
    found = claim(Interaction, **FACTORS, direction=direction, metrics=["deception"]).judge(table(means, noise))
    assert found.verdict == expected
    assert found.outcomes[0].contrast == "(spiked - placebo) - (mask - unshaped)"
    wanted = (means["spiked"] - means["placebo"]) - (means["mask"] - 0.5)
    assert found.outcomes[0].interval.mean == pytest.approx(wanted, abs=0.01)


@pytest.mark.parametrize("with_reference", [False, True])
def test_interaction_with_an_axis_is_the_change_of_the_effect(with_reference: bool) -> None:
    arms = swept("path", [0, 1], with_reference=with_reference)
    means = {
        "penalty+path=0": 0.6,
        "penalty+path=1": 1.0,
        "unshaped": 0.5,
        "unshaped+path=0": 0.5,
        "unshaped+path=1": 0.7,
    }
    factor = claim(Interaction, treatment="penalty", axis="path", levels=[0, 1], metrics=["deception"])
    found = factor.judge(table(means, (0.0,) * 5, arms))
    assert factor.axes == ("path",)
    assert found.outcomes[0].interval.mean == pytest.approx(0.2 if with_reference else 0.4)
    assert found.verdict == "supported"


def test_interaction_needs_all_four_corners() -> None:
    found = claim(Interaction, **FACTORS, metrics=["deception"]).judge(
        table({"unshaped": 0.5, "mask": 0.6, "spiked": 0.7, "*absent": 1})
    )
    assert (found.verdict, found.reason) == ("not tested", "no complete run of the arm placebo")
    arms = swept("path", [0, 1], with_reference=True)
    lacking = table({a.name: 0.5 for a in arms[:3]} | {"*absent": 1}, arms=arms)
    factor = claim(Interaction, treatment="penalty", axis="path", levels=[0, 1], metrics=["deception"])
    assert factor.judge(lacking).reason == "no complete run of the arm penalty at path = 1"


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"first": "mask"},
        {"axis": "path"},
        {"axis": "path", "levels": [1]},
        {**FACTORS, "axis": "p", "levels": [0, 1]},
    ],
)
def test_an_interaction_has_two_factors(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=r"give `first` and `second` \(arms\), or `axis` and two `levels`"):
        claim(Interaction, metrics=["deception"], **fields)


# Factorial ------------------------------------------------------------------------------------------------------------


CORNERS = [ArmInfo("unshaped", role="reference"), *(ArmInfo(name) for name in ("a", "b", "c", "a+b", "a+c", "b+c"))]
CORNERS += [ArmInfo("a+b+c")]


def additive(*, with_interaction: float = 0.0) -> dict[str, float]:
    """Each factor adds its own amount; a and b together add another one."""
    own = {"a": 0.1, "b": 0.02, "c": -0.04}
    names = [arm.name for arm in CORNERS[1:]]
    means = {name: 0.4 + sum(own[f] for f in name.split("+")) for name in names}
    both = {name: value + with_interaction * ({"a", "b"} <= set(name.split("+"))) for name, value in means.items()}
    return {"unshaped": 0.4, **both}


def factorial(**fields: Any) -> Factorial:
    made = claim(Factorial, **{"factors": ["a", "b", "c"], "metrics": ["deception"], **fields})
    assert isinstance(made, Factorial)
    return made


def test_its_terms_are_differences_of_differences_averaged_over_the_other_factors() -> None:
    found = factorial(terms="all").judge(table(additive(with_interaction=0.2), (0.0,) * 5, CORNERS))
    means = {o.contrast: o.interval.mean for o in found.outcomes}
    assert means == {
        "the effect of a": pytest.approx(0.1 + 0.1), "the effect of b": pytest.approx(0.02 + 0.1),
        "the effect of c": pytest.approx(-0.04), "the interaction a x b": pytest.approx(0.2),
        "the interaction a x c": pytest.approx(0.0), "the interaction b x c": pytest.approx(0.0),
        "the interaction a x b x c": pytest.approx(0.0),
    }  # fmt: skip


def test_of_two_factors_it_is_the_interaction_of_two_arms() -> None:
    means, arms = additive(with_interaction=0.13), CORNERS
    one = factorial(factors=["a", "b"]).judge(table(means, TIGHT, arms))
    other = claim(Interaction, treatment="a+b", first="a", second="b", metrics=["deception"])
    two = other.judge(table(means, TIGHT, arms))
    (ours, *_), (theirs,) = one.outcomes, two.outcomes
    assert ours.interval[:3] == pytest.approx(theirs.interval[:3]) and ours.p == pytest.approx(theirs.p)
    assert one.verdict == two.verdict == "supported"
    assert ours.power and theirs.power and ours.power.needed == theirs.power.needed


@pytest.mark.parametrize(
    ("interaction", "noise", "fields", "expected"),
    [
        (0.2, TIGHT, {}, "supported"),
        (0.0, TIGHT, {}, "contradicted"),
        (0.1, WIDE, {}, "inconclusive"),
        (0.2, TIGHT, {"direction": "down"}, "contradicted"),
        (-0.2, TIGHT, {"direction": "down"}, "supported"),
        (0.2, TIGHT, {"terms": ["b+c", "a+c"]}, "contradicted"),
        (0.2, TIGHT, {"terms": ["b+a"]}, "supported"),
        (0.0, TIGHT, {"terms": "main"}, "supported"),
    ],
)
def test_factorial_verdicts(interaction: float, noise: Sequence[float], fields: Any, expected: str) -> None:
    found = factorial(**fields).judge(table(additive(with_interaction=interaction), noise, CORNERS))
    assert found.verdict == expected
    assert len(found.outcomes) == 7  # what does not decide is printed beside
    if expected == "supported" and not fields:
        assert "the interaction a x b in" in found.sentence and "a x c" not in found.sentence


def test_factorial_needs_all_corners() -> None:
    means = {name: mean for name, mean in additive().items() if name not in ("a+b", "b+c")} | {"*absent": 1.0}
    found = factorial().judge(table(means, arms=CORNERS))
    assert (found.verdict, found.reason) == ("not tested", "no complete run of the arm a+b or of the arm b+c")
    assert not factorial().holds_at(table(means, arms=CORNERS[:4]))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"factors": ["a"]}, "at least 2 items"),
        ({"factors": ["a", "a"]}, "listed twice"),
        ({"terms": ["a+d"]}, "is no effect of a, b, c; write 'a' for a main effect, 'a+b' for an interaction"),
        ({"terms": []}, "list one at least"),
        ({"treatment": "a"}, "leave it out"),
    ],
)
def test_factorial_refuses(fields: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(message)):
        factorial(**fields)


def test_its_family_of_terms_rarely_finds_an_interaction_where_there_is_none() -> None:
    """Type I error over all interactions of three factors: arms of unequal spread on four subjects, main effects."""
    draws, n, factors = 3000, 8, ("a", "b", "c")
    rng = np.random.default_rng(0)
    names = [name_of(chosen) for chosen in subsets(factors)]
    kin = np.arange(n) % 4
    outcomes = np.concatenate(
        [
            0.1 * len(chosen) + 0.1 * kin + rng.normal(0, 0.05 * (1 + len(chosen)), (draws, n))
            for chosen in subsets(factors)
        ],
        axis=1,
    )
    arms = [name for name in names for _ in range(n)]
    ps = []
    for term in subsets(factors, 2):
        weights = {name_of(chosen): weight for chosen, weight in effect_weights(factors, term).items()}
        ps.append(Design.of(arms, [*kin] * len(names), weights).estimate(outcomes).apart())
    errors = np.mean([min(holm(of_study)) <= 0.05 for of_study in np.array(ps).T])
    assert 0.02 < errors <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / draws)


def test_over_the_logarithm_of_sizes_each_doubling_counts_alike() -> None:
    doses = {"mask": 1, "penalty": 2, "prompt": 16}
    arms = {"mask": 0.5, "penalty": 0.6, "prompt": 0.9}
    line, log = (
        claim(Ordered, dose=doses, scale=scale, relative=False, metrics=["deception"]).judge(table(arms)).outcomes[0]
        for scale in ("linear", "log")
    )
    # places 0, 1 and 4 in doublings, and 0.1 of each: a change of 4 x 0.1 with the logarithm, whose line is exact
    assert log.interval.mean == pytest.approx(0.4)
    # places 1, 2 and 16, mean 19/3: 15 x sum((u - 19/3) y) / sum((u - 19/3)^2)
    assert line.interval.mean == pytest.approx(15 * (-16 / 3 * 0.5 - 13 / 3 * 0.6 + 29 / 3 * 0.9) / (1266 / 9))
