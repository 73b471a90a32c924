"""Contrasts against textbook formulas and statsmodels; floors, lines and shares by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import statsmodels.api as sm
from statsmodels.stats.proportion import proportion_confint
from statsmodels.stats.weightstats import ttest_ind

from launch.report.statistics.estimate import Design, contrast
from launch.report.statistics.noise import bounds, floor
from launch.report.statistics.replicates import excluded_share, turned, upper_share

RNG = np.random.default_rng(5)
FOUR = {seed: f"organism-{seed % 4}" for seed in range(12)}


def columns(sizes: dict[str, int], spread: dict[str, float]) -> dict[str, dict[int, float]]:
    return {arm: dict(enumerate(RNG.normal(0.3, spread[arm], n))) for arm, n in sizes.items()}


@pytest.mark.parametrize("sizes", [{"a": 7, "b": 5}, {"a": 12, "b": 12}, {"a": 5, "b": 2}])
def test_with_one_subject_a_difference_is_exactly_welchs(sizes: dict[str, int]) -> None:
    data = columns(sizes, {"a": 1.0, "b": 3.0})
    found = contrast(data, {"a": 1.0, "b": -1.0})
    a, b = (np.array(list(data[arm].values())) for arm in sizes)
    _, p, df = ttest_ind(a, b, usevar="unequal")
    assert found is not None
    assert float(found.mean) == pytest.approx(a.mean() - b.mean())
    assert float(found.se) == pytest.approx(math.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b)))
    assert (float(found.df), float(found.apart())) == (pytest.approx(df), pytest.approx(p))
    assert float(found.above()) == pytest.approx(ttest_ind(a, b, usevar="unequal", alternative="larger")[1])


def test_with_several_subjects_the_standard_error_is_statsmodels_hc2() -> None:
    data = columns({"a": 12, "b": 10}, {"a": 1.0, "b": 0.2})
    found = contrast(data, {"a": 1.0, "b": -1.0}, FOUR)
    seeds = [*data["a"], *data["b"]]
    model = np.column_stack(
        [np.r_[np.ones(12), np.zeros(10)], np.ones(22), *[[float(s % 4 == k) for s in seeds] for k in (1, 2, 3)]]
    )
    fitted = sm.OLS([*data["a"].values(), *data["b"].values()], model).fit(cov_type="HC2")
    assert found is not None
    assert (float(found.mean), float(found.se)) == (pytest.approx(fitted.params[0]), pytest.approx(fitted.bse[0]))
    assert 9 <= float(found.df) <= 17  # between the noisier arm alone and both arms with equal variances


def test_a_shared_mean_of_a_subject_widens_nothing() -> None:
    data = columns({"a": 12, "b": 12}, {"a": 0.1, "b": 0.1})
    plain = contrast(data, {"a": 1.0, "b": -1.0}, FOUR)
    moved = {arm: {s: v + 10 * (s % 4) for s, v in column.items()} for arm, column in data.items()}
    shifted = contrast(moved, {"a": 1.0, "b": -1.0}, FOUR)
    blind = contrast(moved, {"a": 1.0, "b": -1.0})
    assert plain is not None and shifted is not None and blind is not None
    assert (float(plain.mean), float(plain.se)) == (pytest.approx(shifted.mean), pytest.approx(shifted.se))
    assert float(blind.se) > 20 * float(shifted.se)


def test_any_contrast_of_arms_has_the_variance_of_its_parts() -> None:
    data = columns({"a": 6, "b": 8, "c": 5}, {"a": 1.0, "b": 2.0, "c": 0.5})
    found = contrast(data, {"a": 1.0, "b": -0.5, "c": -0.5})
    parts = [w**2 * np.var(list(data[arm].values()), ddof=1) / len(data[arm]) for arm, w in (("a", 1), ("b", 0.5))]
    parts.append(0.25 * np.var(list(data["c"].values()), ddof=1) / 5)
    assert found is not None
    assert float(found.se) == pytest.approx(math.sqrt(sum(parts)))
    assert float(found.df) == pytest.approx(
        sum(parts) ** 2 / sum(p**2 / (n - 1) for p, n in zip(parts, (6, 8, 5), strict=True))
    )


def test_what_does_not_determine_a_contrast_gives_none() -> None:
    apart = {0: "organism-0", 1: "organism-0", 2: "organism-1", 3: "organism-1"}
    assert contrast({"a": {0: 0.1, 1: 0.2}, "b": {2: 0.3, 3: 0.1}}, {"a": 1.0, "b": -1.0}, apart) is None
    assert contrast({"a": {0: 0.1}, "b": {0: 0.3, 1: 0.1}}, {"a": 1.0, "b": -1.0}) is None
    assert contrast({"b": {0: 0.3, 1: 0.1}}, {"a": 1.0, "b": -1.0}) is None


def test_a_subject_with_one_replicate_in_all_says_nothing_about_the_arms() -> None:
    data = columns({"a": 6, "b": 6}, {"a": 0.1, "b": 0.1})
    odd = {**data, "a": {**data["a"], 9: 40.0}}
    kin = {**dict.fromkeys(range(6), "x"), 9: "y"}
    plain, beside = (contrast(each, {"a": 1.0, "b": -1.0}, kin) for each in (data, odd))
    assert plain is not None and beside is not None
    assert (float(plain.mean), float(plain.se)) == (pytest.approx(beside.mean), pytest.approx(beside.se))
    assert float(beside.df) == pytest.approx(plain.df)


def test_many_studies_at_once_are_each_the_same_as_alone() -> None:
    outcomes = RNG.normal(size=(3, 12))
    design = Design.of(["a"] * 6 + ["b"] * 6, [s % 3 for s in range(12)], {"a": 1.0, "b": -1.0})
    together = design.estimate(outcomes)
    for row in range(3):
        alone = design.estimate(outcomes[row])
        assert (together.mean[row], together.se[row], together.df[row]) == pytest.approx(
            (float(alone.mean), float(alone.se), float(alone.df))
        )


# Evaluation noise -----------------------------------------------------------------------------------------------------


def test_a_rate_that_is_always_zero_has_the_variance_of_its_evaluation() -> None:
    """(0 + 2) / (5 * 32 + 4) events per chance, over 32 chances."""
    rate = 2 / 164
    assert floor("deception", [0.0] * 5, 32) == pytest.approx(rate * (1 - rate) / 32)
    assert floor("hidden_gap", [0.0] * 5, 32) == pytest.approx(4 * rate * (1 - rate) / 32)
    assert floor("deception", [0.5] * 5, 32) == pytest.approx(0.25 / 32)
    assert floor("proxy_reward", [0.0] * 5, 32) == 0.0
    assert floor("deception", [0.0] * 5, 0) == 0.0


def test_the_floor_keeps_an_interval_from_having_no_width() -> None:
    data = {"a": dict.fromkeys(range(6), 0.0), "b": dict.fromkeys(range(6), 0.0)}
    least = floor("deception", [0.0] * 6, 16)
    found = contrast(data, {"a": 1.0, "b": -1.0}, floors={"a": least, "b": least})
    assert found is not None
    assert (float(found.se), float(found.df)) == (pytest.approx(math.sqrt(2 * least / 6)), pytest.approx(10))
    noisy = columns({"a": 6, "b": 6}, {"a": 1.0, "b": 1.0})
    above = contrast(noisy, {"a": 1.0, "b": -1.0}, floors={"a": least, "b": least})
    assert above == contrast(noisy, {"a": 1.0, "b": -1.0})


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("deception", (0, 1)),
        ("deception.clerk", (0, 1)),
        ("trained/evasion.steward", (0, 1)),
        ("leak/negated/deception.steward", (-1, 1)),
        ("max_leak/deception", (-1, 1)),
        ("hidden_gap", (-1, 1)),
        ("proxy_reward", (-math.inf, math.inf)),
        ("own_metric", (-math.inf, math.inf)),
    ],
)
def test_shares_have_bounds_and_returns_have_none(metric: str, expected: tuple[float, float]) -> None:
    assert bounds(metric) == expected


# Replicates that turned -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "share"), [(6, 0.393), (12, 0.221), (24, 0.117)])
def test_without_a_catastrophe_n_replicates_exclude_what_the_exact_interval_excludes(n: int, share: float) -> None:
    assert excluded_share(n) == pytest.approx(share, abs=5e-4)
    assert upper_share(0, n) == pytest.approx(excluded_share(n))
    assert upper_share(2, n) == pytest.approx(proportion_confint(2, n, alpha=0.1, method="beta")[1])
    assert upper_share(n, n) == 1.0


def test_a_replicate_turns_two_margins_above_the_reference_of_its_own_subject() -> None:
    base = {seed: 0.1 + 0.4 * (seed % 2) + 0.001 * seed for seed in range(8)}
    kin = {seed: str(seed % 2) for seed in range(8)}
    own = {**base, 2: 0.31, 3: 0.69, 4: 0.29}
    found = turned(own, base, kin, 0.1)
    assert (found.count, found.n, found.step, found.room) == (1, 8, 0.2, True)
    assert not found.none
    assert turned(own, base, {}, 0.1).step > 0.6  # without subjects the reference itself varies as much
    fallen = turned({**base, 3: 0.2}, base, kin, 0.1, direction=-1, limit=0.0)
    assert (fallen.count, fallen.room) == (1, False)  # from 0.1 nothing can fall by 0.2


def test_where_the_metric_has_no_room_no_absence_is_shown() -> None:
    high = dict.fromkeys(range(6), 0.9)
    assert not turned(high, high, {}, 0.1, limit=1.0).none
    assert turned(high, high, {}, 0.1).none
