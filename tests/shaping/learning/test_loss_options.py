"""Sequence-level ratios, KL estimators, entropy, mismatch weights, imitation: by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from gradients import column, gradient
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shaping.learning.config import KLEstimator
from shaping.learning.losses.logprobs import token_logprobs
from shaping.learning.losses.losses import (
    clipped_fraction,
    imitation,
    kl,
    mismatch_weight,
    policy_gradient,
    sequence_old,
)
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.models.forward import hidden_states

MakeSample = Callable[..., Sample]
CLIP = {"clip_low": 0.2, "clip_high": 0.3}


def random(count: int, rows: int) -> Tensor:
    return torch.randn(rows, count, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 0.4


def test_advantages_within_a_sequence_keep_their_place() -> None:
    old, advantage = column(-1, -1, -2), column(1.0, -1.0, 0.5)
    logprobs, sequence = old + column(0.3, -0.1, 0.15), torch.tensor([0, 0, 1])

    def loss(x: Tensor) -> Tensor:
        level = sequence_old(x, old, sequence)
        return policy_gradient(x, level, advantage, column(1, 3, 1), ratio="sampler", **CLIP)

    torch.testing.assert_close(gradient(loss, logprobs), column(-math.exp(0.1), 3 * math.exp(0.1), -math.exp(0.15) / 2))


def test_a_sequence_is_clipped_as_a_whole_where_single_tokens_would_be_too() -> None:
    old, sequence = column(-1, -1), torch.tensor([0, 0])
    logprobs = old + column(0.8, -0.6)  # ratios 2.2 and 0.55, of the sequence 1.1
    level = sequence_old(logprobs, old, sequence)
    assert int(clipped_fraction(logprobs, old, column(1, -1), **CLIP)) == 2
    assert int(clipped_fraction(logprobs, level, column(1, -1), **CLIP)) == 0
    assert len(sequence_old(column(), column(), torch.zeros(0, dtype=torch.long))) == 0


def test_packed_sequence_ratios_are_those_of_each_sequence_alone(policy: Policy, make_sample: MakeSample) -> None:
    samples = [make_sample(n, seed) for seed, n in enumerate((12, 5, 30, 2, 17, 9))]

    def gradients(budget: int) -> tuple[Tensor, list[Tensor]]:
        policy.model.zero_grad()
        total = torch.zeros(())
        for batch in pack(samples, budget):
            logprobs, _ = policy.logprobs(batch)
            assert batch.sequence.tolist() == [n for n, s in enumerate(batch.samples) for _ in range(s.mask.sum())]
            old = sequence_old(logprobs, batch.old, batch.sequence)
            clip = {"clip_low": 0.9, "clip_high": 9.0}
            loss = policy_gradient(logprobs, old, batch.advantage, batch.weight, ratio="sampler", **clip)
            loss.backward()
            total += loss.detach()
        return total, [p.grad.clone() for p in policy.model.parameters()]

    (loss, alone), (packed, together) = gradients(30), gradients(1000)
    assert max(float(g.abs().max()) for g in alone) > 1e-2
    torch.testing.assert_close(packed, loss, atol=1e-4, rtol=1e-4)
    for a, b in zip(alone, together, strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)


def test_the_three_estimators_by_hand() -> None:
    ours, reference = column(math.log(0.5), math.log(0.2)), column(math.log(0.25), math.log(0.6))
    assert float(kl(ours, reference, "k1")) == pytest.approx(math.log(2) - math.log(3))
    assert float(kl(ours, reference, "k2")) == pytest.approx((math.log(2) ** 2 + math.log(3) ** 2) / 2)
    assert float(kl(ours, reference, "k3")) == pytest.approx((0.5 - 1 + math.log(2)) + (3 - 1 - math.log(3)))


def exact_kl(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p.log() - q.log())).sum()


def test_what_each_estimator_gives_on_average_as_a_value_and_as_a_loss() -> None:
    """By enumeration over three tokens: expectation under the policy of the value and of the gradient."""
    logits, reference = column(0.4, -0.2, 0.1), torch.softmax(column(-0.5, 0.3, 0.9), 0)
    chance = torch.softmax(logits, 0)

    def expected(estimator: KLEstimator) -> tuple[float, Tensor]:
        def loss(x: Tensor) -> Tensor:
            logp = torch.log_softmax(x, 0)
            each = [kl(logp[k : k + 1], reference[k : k + 1].log(), estimator) for k in range(3)]
            return (chance * torch.stack(each)).sum()

        return float(loss(logits)), gradient(loss, logits)

    reverse = gradient(lambda x: exact_kl(torch.softmax(x, 0), reference), logits)
    forward = gradient(lambda x: exact_kl(reference, torch.softmax(x, 0)), logits)
    value = float(exact_kl(chance, reference))
    assert expected("k1")[0] == pytest.approx(value) and expected("k3")[0] == pytest.approx(value)
    assert expected("k2")[0] != pytest.approx(value, rel=1e-3)
    torch.testing.assert_close(expected("k1")[1], torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(expected("k2")[1], reverse)
    torch.testing.assert_close(expected("k3")[1], forward)
    assert (reverse - forward).abs().max() > 1e-2


def test_mismatch_weights_by_hand() -> None:
    sampler = column(-2, -2, -2, -2).requires_grad_()
    learner = (column(-2, -2, -2, -2) + column(1.0, 0.5, 3.0, 2.0).log()).requires_grad_()
    truncated = mismatch_weight(learner, sampler.detach(), mode="truncate", cap=2.5)
    torch.testing.assert_close(truncated, column(1.0, 0.5, 2.5, 2.0))
    torch.testing.assert_close(
        mismatch_weight(learner, sampler.detach(), mode="mask", cap=2.5), column(1.0, 0.5, 0.0, 2.0)
    )
    assert mismatch_weight(learner, sampler.detach(), mode="none", cap=2.5).tolist() == [1, 1, 1, 1]
    assert not truncated.requires_grad, "a weight, not a path for the gradient"


def test_geometric_weights_are_one_per_sequence_whatever_its_length() -> None:
    ratios, sequence = column(4.0, 1.0, 3.0, 3.0, 3.0, 0.5), torch.tensor([0, 0, 1, 1, 1, 2])
    given = {"learner": ratios.log(), "sampler": torch.zeros(6, dtype=torch.float64), "sequence": sequence}
    truncated = mismatch_weight(**given, mode="geometric_truncate", cap=2.5)
    torch.testing.assert_close(truncated, column(2.0, 2.0, 2.5, 2.5, 2.5, 0.5))
    masked = mismatch_weight(**given, mode="geometric_mask", cap=2.5)
    torch.testing.assert_close(masked, column(2.0, 2.0, 0.0, 0.0, 0.0, 0.5))
    with pytest.raises(ValueError, match="needs the sequence of each token"):
        mismatch_weight(given["learner"], given["sampler"], mode="geometric_mask", cap=2.5)


def test_dual_clip_bounds_the_gradient_of_what_should_become_rarer() -> None:
    ratios, advantage = column(0.5, 1.1, 2.0, 9.0, 9.0), column(-1, -1, -1, -1, 1)
    options: dict[str, Any] = {"ratio": "sampler", "clip_low": 0.2, "clip_high": 0.2}
    old, ones = torch.zeros(5, dtype=torch.float64), torch.ones(5, dtype=torch.float64)

    def slopes(dual: float | None) -> torch.Tensor:
        logprobs = ratios.log().requires_grad_()
        policy_gradient(logprobs, old, advantage, ones, **options, clip_dual=dual).backward()
        assert logprobs.grad is not None
        return logprobs.grad

    torch.testing.assert_close(slopes(None), column(0, 1.1, 2.0, 9.0, 0))
    torch.testing.assert_close(slopes(3.0), column(0, 1.1, 2.0, 0, 0))
    counts = [
        int(clipped_fraction(ratios.log(), old, advantage, clip_low=0.2, clip_high=0.2, clip_dual=dual))
        for dual in (None, 3.0)
    ]
    assert counts == [2, 3]


@given(st.lists(st.tuples(st.floats(0.02, 1), st.floats(0.02, 1)), min_size=2, max_size=6))
def test_without_a_cap_that_binds_the_weights_make_expectations_the_learners(pairs: list[tuple[float, float]]) -> None:
    learner, sampler = (torch.tensor(p, dtype=torch.float64) for p in zip(*pairs, strict=True))
    learner, sampler = learner / learner.sum(), sampler / sampler.sum()
    weight = mismatch_weight(learner.log(), sampler.log(), mode="truncate", cap=1e6)
    torch.testing.assert_close(sampler * weight, learner)


def test_imitation_is_weighted_cross_entropy() -> None:
    logits, targets, weight = random(6, 4), torch.tensor([0, 5, 2, 2]), column(1.0, 0.0, 2.0, 0.5)
    logprobs = logits.log_softmax(-1)[torch.arange(4), targets]
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(imitation(logprobs, weight), (expected * weight).sum())


@pytest.mark.parametrize("masked_tokens", [False, True])
def test_the_entropy_gradient_is_that_of_finite_differences_and_only_there_if_asked_for(
    policy: Policy, make_sample: MakeSample, masked_tokens: bool
) -> None:
    (batch,) = pack([make_sample(14, masked_tokens=masked_tokens)], 14)
    with torch.no_grad():
        hidden = hidden_states(policy.model, batch.ids, batch.positions, batch.plan)[0, batch.rows]

    def entropy(at: Tensor, wanted: bool = True) -> Tensor:
        logprobs, found = token_logprobs(
            policy.model, at, batch.targets, batch.masked_tokens, chunk=5, entropy_gradient=wanted
        )
        assert found.requires_grad == (wanted and at.requires_grad) and logprobs.requires_grad == at.requires_grad
        return found.sum() * 3.0  # a factor above one would overflow on masked tokens if they were not left out

    leaf = hidden.clone().requires_grad_()
    entropy(leaf, wanted=False)
    entropy(leaf).backward()
    policy.model.zero_grad()
    assert leaf.grad is not None and torch.isfinite(leaf.grad).all()
    for seed in range(5):
        way = torch.randn(hidden.shape, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            slope = (entropy(hidden + 1e-3 * way) - entropy(hidden - 1e-3 * way)) / 2e-3
        assert float((leaf.grad * way).sum()) == pytest.approx(float(slope), rel=0.02, abs=0.05)
