"""Every loss has the gradient that central finite differences in double precision give, away from its kinks."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gradients import Loss, gradient
from torch import Tensor, nn

from shaping.hooks import RatioMode
from shaping.learning.config import KLEstimator, MismatchCorrection
from shaping.learning.losses.logprobs import token_logprobs
from shaping.learning.losses.losses import (
    imitation,
    kl,
    kl_k3,
    mismatch_weight,
    policy_gradient,
    sequence_old,
    value_loss,
)
from shaping.models.head import Head as Arithmetic
from shaping.models.self_check import Layout

CLIP = {"clip_low": 0.2, "clip_high": 0.3}
STEP = 1e-6
COUNT = 60


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def finite_differences(loss: Loss, at: Tensor, step: float = STEP) -> Tensor:
    slopes = torch.zeros_like(at)
    for place in range(at.numel()):
        nudge = torch.zeros_like(at)
        nudge.view(-1)[place] = step
        slopes.view(-1)[place] = (loss(at + nudge) - loss(at - nudge)) / (2 * step)
    return slopes


def agree(loss: Loss, at: Tensor, exact: Loss | None = None) -> Tensor:
    """The gradient, after a comparison with the slopes of `exact`, by default of the loss itself."""
    found = gradient(loss, at)
    torch.testing.assert_close(found, finite_differences(exact or loss, at), atol=1e-7, rtol=1e-6)
    assert bool(found.any())
    return found


@pytest.fixture
def streams() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(log-probs, old ones, advantages, weights) whose ratios lie well inside of and well outside of the clip."""
    old, advantage = -2.0 + random(COUNT), random(COUNT, seed=1)
    ratio = torch.tensor([0.5, 0.78, 0.82, 1.0, 1.28, 1.32, 2.0], dtype=torch.float64).repeat(9)[:COUNT]
    return old + ratio.log(), old, advantage, random(COUNT, seed=2).abs()


@pytest.mark.parametrize("mode", ["sampler", "recomputed"])
def test_the_clipped_surrogate_on_both_sides_of_its_kinks(
    streams: tuple[Tensor, Tensor, Tensor, Tensor], mode: RatioMode
) -> None:
    logprobs, old, advantage, weight = streams
    found = agree(lambda x: policy_gradient(x, old, advantage, weight, ratio=mode, **CLIP), logprobs)
    ratio = (logprobs - old).exp()
    clipped = ((ratio > 1.3) & (advantage > 0)) | ((ratio < 0.8) & (advantage < 0))
    assert torch.equal(found == 0, clipped) and 0 < int(clipped.sum()) < COUNT


def test_without_a_ratio_it_is_the_slope_of_weighted_log_probs(streams: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    logprobs, old, advantage, weight = streams
    agree(
        lambda x: policy_gradient(x, old, advantage, weight, ratio="none", **CLIP),
        logprobs,
        exact=lambda x: -(x * advantage * weight).sum(),
    )


SEQUENCE = torch.arange(COUNT) // 12


@pytest.mark.parametrize("shift", [-0.6, 0.0, 0.6], ids=["below the clip", "inside", "above"])
def test_sequence_ratios_have_the_slope_of_the_whole_sequences_ratio(shift: float) -> None:
    """The exact objective: |y| min(s A, clip(s) A), s the geometric mean of a sequence's ratios."""
    old, advantage = random(COUNT), random(5, seed=1)
    logprobs = old + shift + 0.05 * random(COUNT, seed=3)
    weight = torch.ones(COUNT, dtype=torch.float64)

    def ours(x: Tensor) -> Tensor:
        level = sequence_old(x, old, SEQUENCE)
        return policy_gradient(x, level, advantage[SEQUENCE], weight, ratio="sampler", **CLIP)

    def exact(x: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for number in range(5):
            inside = SEQUENCE.eq(number)
            s, a = torch.exp((x[inside] - old[inside]).mean()), advantage[number]
            total = total - inside.sum() * torch.minimum(s * a, s.clamp(0.8, 1.3) * a)
        return total

    torch.testing.assert_close(ours(logprobs), exact(logprobs))
    found = agree(ours, logprobs, exact)
    assert bool((found == 0).any()) == (shift != 0)


@pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
def test_the_kl_estimates(estimator: KLEstimator) -> None:
    agree(lambda x: kl(x, random(COUNT, seed=1), estimator), random(COUNT))


def test_the_logged_kl() -> None:
    agree(lambda x: kl_k3(x, random(COUNT, seed=1)), random(COUNT))


def test_imitation() -> None:
    agree(lambda x: imitation(x, random(COUNT, seed=1).abs()), random(COUNT))


@pytest.mark.parametrize("clip", [0.2, 100.0])
def test_the_value_loss(clip: float) -> None:
    old, targets = random(COUNT, 2), random(COUNT, 2, seed=1)
    values = old + torch.tensor([-0.5, -0.1, 0.1, 0.5], dtype=torch.float64).repeat(30).view(COUNT, 2)
    mask = random(COUNT, seed=2) > 0
    found = agree(lambda x: value_loss(x, old, targets, mask, clip), values)
    assert not found[~mask].any() and bool((found[mask] == 0).any()) == (clip < 1)


@pytest.mark.parametrize("mode", ["truncate", "mask", "sequence_truncate", "sequence_mask"])
def test_mismatch_weights_are_constants_to_the_gradient(mode: MismatchCorrection) -> None:
    learner, sampler = random(COUNT), random(COUNT, seed=1)
    weight = mismatch_weight(learner, sampler, mode=mode, cap=2.0, sequence=SEQUENCE)
    agree(
        lambda x: -(x * mismatch_weight(x, sampler, mode=mode, cap=2.0, sequence=SEQUENCE)).sum(),
        learner,
        exact=lambda x: -(x * weight).sum(),
    )


ROWS, HIDDEN, VOCABULARY = 7, 5, 11
TARGETS = torch.arange(ROWS) % 4
FORBIDDEN = torch.tensor([[0, 9], [2, 5], [2, 10], [6, 7]])


class Head(nn.Module):
    """Any module whose output embeddings are asked for."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.linear = nn.Linear(HIDDEN, VOCABULARY, bias=bias)
        with torch.no_grad():
            for n, parameter in enumerate(self.linear.parameters()):
                parameter.copy_(random(*parameter.shape, seed=10 + n))
        self.config = SimpleNamespace()
        self._shaping_layout = Layout(packed=True, head=Arithmetic())  # no trunk: it cannot be checked

    def get_output_embeddings(self) -> nn.Linear:
        return self.linear


def exact(hidden: Tensor, weight: Tensor, bias: Tensor | None, entropy: float) -> Tensor:
    """Weighted log-probs of the targets and the entropies, from all logits, in double precision."""
    logits = nn.functional.linear(hidden, weight, bias) / 0.7
    logits = logits.index_put((FORBIDDEN[:, 0], FORBIDDEN[:, 1]), logits.new_tensor(-torch.inf))
    logp = logits.log_softmax(-1)
    picked = logp[torch.arange(ROWS), TARGETS] * random(ROWS, seed=5)
    spread = torch.special.entr(logp.exp()).sum()
    return picked.sum() + entropy * spread


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [0, 3])
@pytest.mark.parametrize("entropy", [0.0, 3.0])
def test_log_probs_and_entropy_by_chunks(bias: bool, chunk: int, entropy: float) -> None:
    """In single precision, as they are used, against slopes in double precision; for hidden states and the head."""
    head: Any = Head(bias)
    hidden = random(ROWS, HIDDEN).float().requires_grad_()
    logprobs, spread = token_logprobs(
        head, hidden, TARGETS, FORBIDDEN, temperature=0.7, chunk=chunk, entropy_gradient=entropy > 0
    )
    assert spread.requires_grad == (entropy > 0)
    ((logprobs * random(ROWS, seed=5).float()).sum() + entropy * spread.sum()).backward()
    values = [hidden, *head.linear.parameters()]
    doubles = [v.detach().double() for v in values]
    for number, value in enumerate(values):

        def loss(x: Tensor, number: int = number) -> Tensor:
            at = [x if n == number else other for n, other in enumerate(doubles)]
            return exact(at[0], at[1], at[2] if bias else None, entropy)

        assert value.grad is not None
        slopes = finite_differences(loss, doubles[number])
        torch.testing.assert_close(value.grad.double(), slopes, atol=2e-5, rtol=1e-4)
