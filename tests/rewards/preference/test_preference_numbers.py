"""Losses, calibration and power laws of preference models, against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from rewards.preference.calibration import bootstrap_mean, calibration, ranked_loss
from rewards.preference.model import mean_over
from rewards.preference.scaling import error_of, power_law
from rewards.preference.train import binary_loss


def test_the_ranked_loss_is_that_of_bradley_and_terry() -> None:
    assert ranked_loss(np.array([1.0]), np.array([1.0])) == pytest.approx(math.log(2))
    assert ranked_loss(np.array([3.0, 0.0]), np.array([1.0, 2.0])) == pytest.approx(
        (math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2
    )
    assert ranked_loss(np.array([-800.0]), np.array([800.0])) == pytest.approx(1600.0), "no overflow"


def test_the_binary_loss_and_its_gradient_are_those_of_the_logistic_model() -> None:
    scores = torch.tensor([0.0, 2.0, -1.0], requires_grad=True)
    loss = binary_loss(scores, torch.tensor([1.0, 1.0, 0.0]))
    loss.backward()
    by_hand = (math.log(2) + math.log(1 + math.exp(-2)) + math.log(1 + math.exp(-1))) / 3
    assert loss.item() == pytest.approx(by_hand)
    sigmoid = [0.5, 1 / (1 + math.exp(-2)), 1 / (1 + math.exp(1))]
    assert scores.grad is not None
    assert scores.grad.tolist() == pytest.approx([(sigmoid[0] - 1) / 3, (sigmoid[1] - 1) / 3, sigmoid[2] / 3])


def test_calibration_of_known_probabilities() -> None:
    """Four predictions of .2, of which one comes true, and six of .9, of which three do."""
    predicted = np.array([0.2] * 4 + [0.9] * 6)
    found = calibration(predicted, np.array([True, False, False, False, True, True, True, False, False, False]))
    assert found.brier == pytest.approx((0.8**2 + 3 * 0.2**2 + 3 * 0.1**2 + 3 * 0.9**2) / 10)
    assert found.ece == pytest.approx((4 * 0.05 + 6 * 0.4) / 10)
    assert [(each.count, each.observed) for each in found.bins] == [(4, 0.25), (6, 0.5)]
    assert all(each.interval[0] < each.observed < each.interval[1] for each in found.bins)


def test_probabilities_that_are_true_have_no_calibration_error_but_noise() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0.5, 1, 40_000)
    found = calibration(predicted, rng.uniform(size=40_000) < predicted, low=0.5)
    assert found.ece < 0.01 and len(found.bins) == 10
    assert found.brier == pytest.approx(float((predicted * (1 - predicted)).mean()), abs=0.005)
    with pytest.raises(ValueError, match=r"from 0.5 to 1"):
        calibration(np.array([0.4]), np.array([True]), low=0.5)


def test_the_interval_of_a_mean_resamples_whole_situations() -> None:
    """Copies of one pair say nothing new: ten copies of each value have the interval of the values alone."""
    values, names = np.array([0.0, 1.0, 1.0, 0.0, 1.0] * 8), [f"s{n}" for n in range(40)]
    alone = bootstrap_mean(values, names)
    copied = bootstrap_mean(np.repeat(values, 10), [name for name in names for _ in range(10)])
    assert copied == pytest.approx(alone)
    spread = math.sqrt(0.6 * 0.4 / 40)
    assert alone is not None and alone[0] == pytest.approx(0.6 - 1.96 * spread, abs=0.04)
    assert bootstrap_mean(np.ones(3), ["s"] * 3) is None


def test_a_power_law_is_recovered() -> None:
    sizes, counts = (axis.ravel() for axis in np.meshgrid([1e5, 3e5, 1e6, 3e6], [100.0, 1000.0, 10_000.0]))
    exact = power_law(2.5 * sizes**-0.12 * counts**-0.3, parameters=sizes, examples=counts)
    assert exact.exponents == pytest.approx({"parameters": 0.12, "examples": 0.3})
    assert exact.factor == pytest.approx(2.5) and exact.r2 == pytest.approx(1)
    assert exact.at(parameters=1e6, examples=100) == pytest.approx(2.5 * 1e6**-0.12 * 100**-0.3)


def test_its_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    x = np.array([1e5, 3e5, 1e6, 3e6])
    held = 0
    for _ in range(400):
        low, high = power_law(x**-0.2 * np.exp(0.1 * rng.standard_normal(4)), x=x).intervals["x"]
        held += low < 0.2 < high
    assert abs(held / 400 - 0.95) < 4 * math.sqrt(0.95 * 0.05 / 400)


def test_what_determines_no_power_law_is_refused() -> None:
    with pytest.raises(ValueError, match="does not vary apart"):
        power_law(np.array([1.0, 2.0, 3.0]), x=np.full(3, 2.0))
    with pytest.raises(ValueError, match="1 points do not determine 2"):
        power_law(np.array([1.0]), x=np.array([2.0]))
    with pytest.raises(ValueError, match="positive"):
        power_law(np.array([0.0, 1.0]), x=np.array([1.0, 2.0]))
    assert error_of(1.0, 50) == 0.01 and error_of(0.75, 50) == 0.25


def test_the_score_of_imitation_is_a_mean_over_what_was_said() -> None:
    found = mean_over(np.array([[-1.0, -3.0, -9.0], [-2.0, -4.0, -6.0]]), np.array([[1, 1, 0], [0, 0, 0]], bool))
    assert found.tolist() == [-2.0, 0.0]
