"""Claims that a metric is above zero by itself: every word, the interval of one sample, and its power."""

from __future__ import annotations

import numpy as np
import pytest
from claim_tables import TIGHT, WIDE, claim, judged, table
from scipy import stats
from statsmodels.stats.power import TTestPower

from launch.report.claims.base import Claim
from launch.report.claims.kinds.above_zero import AboveZero
from launch.report.claims.kinds.not_above_zero import NotAboveZero
from launch.report.claims.kinds.ordered import Ordered
from launch.report.claims.power import powers
from launch.report.files.load import ArmInfo


@pytest.mark.parametrize(
    ("kind", "mean", "noise", "expected"),
    [
        (AboveZero, 0.2, TIGHT, "supported"),
        (AboveZero, 0.0, TIGHT, "contradicted"),
        (AboveZero, -0.3, TIGHT, "contradicted"),
        (AboveZero, 0.2, WIDE, "inconclusive"),
        (NotAboveZero, 0.0, TIGHT, "supported"),
        (NotAboveZero, -0.3, TIGHT, "supported"),
        (NotAboveZero, 0.2, TIGHT, "contradicted"),
        (NotAboveZero, 0.0, WIDE, "inconclusive"),
    ],
)
def test_the_mean_of_an_arm_is_compared_with_zero(
    kind: type[Claim], mean: float, noise: tuple[float, ...], expected: str
) -> None:
    found = judged(kind, table({"mask": mean, "unshaped": 5.0}, noise))
    assert found.verdict == expected
    assert found.sentence.endswith(f"(C {expected}.)") and "unshaped" not in found.sentence


def test_the_interval_is_that_of_one_sample() -> None:
    noise = (0.1, -0.2, 0.05, 0.3, -0.1, 0.02)
    (outcome,) = judged(AboveZero, table({"mask": 0.3}, noise)).outcomes
    values = 0.3 + 1.1 * np.array(noise)  # `table` scales the noise of the second arm
    low, high = stats.t.interval(0.9, len(values) - 1, values.mean(), stats.sem(values))
    assert (outcome.interval.mean, outcome.interval.low, outcome.interval.high) == pytest.approx(
        (values.mean(), low, high)
    )


def test_several_arms_are_judged_one_by_one() -> None:
    means = {"mask": 0.0, "penalty": 0.3}
    assert judged(AboveZero, table(means), treatment=["mask", "penalty"]).verdict == "supported"
    assert judged(NotAboveZero, table(means), treatment=["mask", "penalty"]).verdict == "contradicted"


@pytest.mark.parametrize(("n", "sd"), [(6, 0.03), (8, 0.05)])
def test_its_power_is_stated_and_that_of_a_t_test_of_one_sample(n: int, sd: float) -> None:
    asked = claim(AboveZero, treatment="mask", metrics=["deception"], margin=0.05, assumes={"sd": sd})
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)
    ((_, power),) = powers(asked, table({"mask": 0.2}, (sd / 1.1 * values / values.std(ddof=1)).tolist()))
    theirs = TTestPower().power(0.05 / sd, n, 0.05, alternative="larger")
    assert power.power == pytest.approx(theirs, abs=0.01)


# Doses of an axis of names --------------------------------------------------------------------------------------------


def at_points(**means: float) -> list[ArmInfo]:
    return [ArmInfo(f"mask+point={p}", family="constraint", sweep_point={"point": p}) for p in means]


def test_the_names_of_an_axis_have_doses_and_others_are_left_out() -> None:
    means = {"small": 0.1, "large": 0.5, "middle": 0.3, "other": 9.0}
    arms = [ArmInfo("unshaped", role="reference"), *at_points(**means)]
    values = {"small": 10, "middle": 100, "large": 1000}
    asked = claim(
        Ordered, dose="point", values=values, scale="log", treatment="mask", relative=False, metrics=["deception"]
    )
    found = asked.judge(table({f"mask+point={p}": mean for p, mean in means.items()}, TIGHT, arms))
    assert found.verdict == "supported" and found.outcomes[0].interval.mean == pytest.approx(0.4, abs=0.01)
    assert found.outcomes[0].contrast == "fitted change, dose 10 to 1000"


def test_doses_of_arms_have_no_values_of_names() -> None:
    with pytest.raises(ValueError, match="leave `values` out"):
        claim(Ordered, dose={"mask": 1, "penalty": 2}, values={"mask": 1}, metrics=["deception"])
