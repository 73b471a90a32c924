"""Slopes of log-odds on a dose and curves at equal harm: known answers, and error rates on simulated studies."""

from __future__ import annotations

import numpy as np
import pytest

from launch.report.statistics.matched import Replicate, fitted, matched, read_off
from launch.report.statistics.resample import within
from launch.report.statistics.slope import empirical_logits, given_dose, slope

SUBJECTS = [f"organism-{k % 4}" for k in range(12)]


def test_resamples_stay_within_subjects_and_have_the_variance_of_a_mean() -> None:
    values = np.arange(8.0) ** 2
    subjects = ["a", "b"] * 4
    chosen, weights = within(subjects, 20_000, np.random.default_rng(0))
    assert weights.sum() == pytest.approx(8)
    assert all(subjects[i] == "a" for i in np.unique(chosen[:, :3])) and chosen.shape == (20_000, 6)
    means = values[chosen] @ weights / 8
    expected = sum(values[k::2].var(ddof=1) / 4 for k in (0, 1)) / 4
    assert means.mean() == pytest.approx(values.mean(), rel=0.02)
    assert means.var() == pytest.approx(expected, rel=0.05)


def test_a_subject_with_one_replicate_makes_all_of_them_one_pool() -> None:
    chosen, weights = within(["a", "a", "b"], 500, np.random.default_rng(0))
    assert set(np.unique(chosen)) == {0, 1, 2} and weights.sum() == pytest.approx(3)


def test_log_odds_are_finite_at_none_and_all() -> None:
    none, half, all_ = empirical_logits(np.array([0.0, 0.5, 1.0]), np.array([16.0, 16.0, 16.0]))
    assert (none, half, all_) == (pytest.approx(-np.log(33)), 0.0, pytest.approx(np.log(33)))


def test_a_slope_is_found_within_subjects_whatever_their_levels() -> None:
    doses, shares, subjects = [], [], []
    for subject, level in (("a", -2.0), ("b", 1.0)):
        for dose in (0.0, 0.1, 0.2) * 3:
            doses.append(dose), subjects.append(subject)
            shares.append(1 / (1 + np.exp(-(level + 5 * dose))))
    found = slope(doses, shares, [1e9] * 18, subjects)
    assert found is not None and found.mean == pytest.approx(5.0, abs=1e-3)
    assert found.low == pytest.approx(5.0, abs=1e-3) and found.high == pytest.approx(5.0, abs=1e-3)


def test_without_two_doses_there_is_no_slope() -> None:
    assert slope([0.1, 0.1, 0.3, 0.3], [0.5] * 4, [10] * 4, ["a", "a", "b", "b"]) is None


def test_what_a_mark_adds_is_found_beside_the_dose() -> None:
    marks, doses, shares, subjects = [], [], [], []
    for subject, level in (("a", -2.0), ("b", 1.0)):
        for mark, dose in ((0, 0.0), (0, 0.1), (1, 0.1), (1, 0.3)) * 2:
            marks.append(mark), doses.append(dose), subjects.append(subject)
            shares.append(1 / (1 + np.exp(-(level + 5 * dose - 0.7 * mark))))
    found = given_dose(marks, doses, shares, [1e9] * 16, subjects)
    assert found is not None and found.mean == pytest.approx(-0.7, abs=1e-3)
    follows = given_dose([0, 0, 1, 1], [0.1, 0.1, 0.3, 0.3], [0.5] * 4, [10] * 4, ["a", "a", "b", "b"])
    assert follows is None


def test_bounds_of_a_mark_err_in_one_of_twenty_studies_each() -> None:
    rng, low, high, studies = np.random.default_rng(2), 0, 0, 200
    doses, marks = np.repeat([0.0, 0.0, 0.1, 0.2], 12), np.repeat([0.0, 0.0, 1.0, 1.0], 12)
    for study in range(studies):
        rate = 1 / (1 + np.exp(-(-0.5 + 3 * doses + 0.3 * marks + rng.normal(0, 0.5, 48))))
        found = given_dose(marks, doses, rng.binomial(64, rate) / 64, [64] * 48, SUBJECTS * 4, draws=300, seed=study)
        assert found is not None
        low, high = low + (found.low > 0.3), high + (found.high < 0.3)
    assert max(low, high) / studies <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)


def test_a_flat_dose_is_called_rising_in_one_of_twenty_studies() -> None:
    rng, hits, studies = np.random.default_rng(1), 0, 400
    doses, subjects = np.repeat([0.0, 0.0, 0.05, 0.1, 0.16], 12), SUBJECTS * 5
    level = dict(zip(dict.fromkeys(SUBJECTS), (-1.5, -0.5, 0.0, 1.0), strict=True))
    for study in range(studies):
        rate = 1 / (1 + np.exp(-(np.array([level[s] for s in subjects]) + rng.normal(0, 1, 60))))
        found = slope(doses, rng.binomial(32, rate) / 32, [32] * 60, subjects, draws=400, seed=study)
        hits += found is not None and found.low > 0
    assert hits / studies <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)


def test_curves_are_monotone_and_end_at_their_ends() -> None:
    harm = np.array([0.4, 0.1, 0.2, 0.3])
    knots, values = fitted(harm, np.array([0.1, 0.7, 0.9, 0.3]))
    assert knots.tolist() == [0.1, 0.2, 0.3, 0.4] and values.tolist() == [0.8, 0.8, 0.3, 0.1]  # the first two pooled
    assert read_off(harm, np.array([0.1, 0.7, 0.9, 0.3]), 0.25) == pytest.approx(0.55)
    assert np.isnan(read_off(harm, harm, 0.05)) and np.isnan(read_off(harm, harm, 0.5))


def arm(rng: np.random.Generator, harm: float, outcome: float, sd: float = 0.02) -> list[Replicate]:
    return [Replicate(s, harm + rng.normal(0, sd), outcome + rng.normal(0, sd)) for s in SUBJECTS]


def test_arms_are_compared_at_half_of_the_unshaped_harm() -> None:
    rng = np.random.default_rng(2)
    curves = {
        "penalty": [arm(rng, 0.3, 0.4), arm(rng, 0.1, 0.8)],  # at .2: about .6
        "inoculation": [arm(rng, 0.3, 0.2), arm(rng, 0.1, 0.2)],
        "weak": [arm(rng, 0.35, 0.2), arm(rng, 0.38, 0.2)],
    }
    found = matched(curves, arm(rng, 0.4, 0.2), [("penalty", "inoculation"), ("penalty", "weak")], draws=500)
    assert found.harm == pytest.approx(0.2, abs=0.02)
    assert found.readings["penalty"].low < 0.6 < found.readings["penalty"].high
    assert found.differences["penalty", "inoculation"].low > 0.3
    assert found.readings["weak"].reached == 0 and np.isnan(found.readings["weak"].low)
    assert np.isnan(found.differences["penalty", "weak"].mean)


def test_equal_curves_are_called_apart_in_one_of_twenty_studies() -> None:
    rng, hits, studies = np.random.default_rng(3), 0, 80
    for study in range(studies):
        strengths = ((0.3, 0.3), (0.2, 0.4), (0.1, 0.5))
        curves = {name: [arm(rng, h, o, 0.1) for h, o in strengths] for name in ("one", "other")}
        found = matched(curves, arm(rng, 0.4, 0.2, 0.1), [("one", "other")], draws=100, seed=study)
        hits += found.differences["one", "other"].low > 0
    assert hits / studies <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / studies)
