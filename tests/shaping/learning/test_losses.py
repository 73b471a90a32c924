"""Losses: clipping by hand, ratio modes, and the k3 estimator by enumeration."""

from __future__ import annotations

import math

import pytest
import torch
from gradients import column
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shaping.hooks import RatioMode
from shaping.learning.losses.losses import clipped_fraction, kl_k3, policy_gradient

CLIP = {"clip_low": 0.2, "clip_high": 0.3}
MODES: tuple[RatioMode, ...] = ("sampler", "recomputed", "none")


def gradient(
    logprobs: Tensor, old: Tensor, advantage: Tensor, weight: Tensor | None = None, ratio: RatioMode = "sampler"
) -> Tensor:
    leaf = logprobs.clone().requires_grad_()
    weight = torch.ones_like(leaf) if weight is None else weight
    policy_gradient(leaf, old, advantage, weight, ratio=ratio, **CLIP).backward()
    assert leaf.grad is not None
    return leaf.grad


def test_reinforce_has_the_gradient_of_the_logprob_whatever_the_old_one_was() -> None:
    advantage, weight = column(2.0, -3.0, 0.5), column(1.0, 0.5, 2.0)
    found = gradient(column(-1, -2, -3), column(9, -9, 0), advantage, weight, "none")
    torch.testing.assert_close(found, -advantage * weight)


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [
        (1.0, 1.0, -1.0),  # inside: -ratio * advantage
        (1.25, 1.0, -1.25),
        (0.5, 1.0, -0.5),  # too unlikely and good: pushed back up
        (1.4, 1.0, 0.0),  # above 1 + clip_high and good: enough
        (1.4, -1.0, 1.4),  # too likely and bad: pushed back down
        (0.7, -1.0, 0.0),  # below 1 - clip_low and bad: enough
        (0.85, -1.0, 0.85),
    ],
)
def test_clipping_by_hand(ratio: float, advantage: float, expected: float) -> None:
    old = column(-2.0)
    found = gradient(old + math.log(ratio), old, column(advantage))
    assert float(found) == pytest.approx(expected)
    clipped = clipped_fraction(old + math.log(ratio), old, column(advantage), **CLIP)
    assert bool(clipped) == (expected == 0.0)


def test_weights_multiply_the_term_and_not_the_clip() -> None:
    old, logprobs = column(-2, -2), column(-2, -2 + math.log(1.4))
    torch.testing.assert_close(gradient(logprobs, old, column(1, -1), column(0.0, 3.0)), column(0.0, 4.2))


@pytest.mark.parametrize("ratio", MODES)
def test_every_mode_has_the_policy_gradient_where_old_and_new_agree(ratio: RatioMode) -> None:
    logprobs, advantage = column(-1.0, -2.0, -0.1), column(1.0, -2.0, 0.5)
    torch.testing.assert_close(gradient(logprobs, logprobs, advantage, ratio=ratio), -advantage)


def test_cross_learns_nothing_from_bad_samples_that_are_unlikely_under_the_learning_context() -> None:
    """Recontextualised samples start below the clip: positive ones are damped, negative ones lose their gradient."""
    sampler, under_training_context = column(-1.0, -1.0), column(-3.0, -3.0)
    good, bad = gradient(under_training_context, sampler, column(1.0, -1.0), ratio="sampler").tolist()
    assert good == pytest.approx(-math.exp(-2.0)) and bad == 0.0


def test_recompute_and_none_start_at_ratio_one_and_learn_from_both() -> None:
    sampler, under_training_context = column(-1.0, -1.0), column(-3.0, -3.0)
    recomputed = gradient(under_training_context, under_training_context, column(1.0, -1.0), ratio="recomputed")
    none = gradient(under_training_context, sampler, column(1.0, -1.0), ratio="none")
    torch.testing.assert_close(recomputed, column(-1.0, 1.0))
    torch.testing.assert_close(none, column(-1.0, 1.0))


@given(st.lists(st.tuples(st.floats(-20, 0), st.floats(-20, 0)), min_size=1, max_size=8))
def test_k3_is_never_negative_and_zero_where_the_policies_agree(pairs: list[tuple[float, float]]) -> None:
    ours, reference = column(*(a for a, _ in pairs)), column(*(b for _, b in pairs))
    assert float(kl_k3(ours, reference)) >= -1e-15
    assert float(kl_k3(ours, ours)) == 0.0


def test_the_expectation_of_k3_is_the_exact_kl() -> None:
    ours, reference = (torch.tensor(p, dtype=torch.float64) for p in ([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]))
    exact = float((ours * (ours / reference).log()).sum())
    by_token = [float(kl_k3(ours[k : k + 1].log(), reference[k : k + 1].log())) for k in range(3)]
    assert float(ours @ column(*by_token)) == pytest.approx(exact)
    other_way = float((reference * (reference / ours).log()).sum())
    assert abs(exact - other_way) > 0.01, "the direction matters: KL(policy || reference)"
