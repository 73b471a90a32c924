"""In bfloat16, the head multiplies and its gradient adds up in float32."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from shaping.learning.losses.logprobs import token_logprobs
from shaping.learning.policy import Policy
from shaping.models.forward import head_logits

ROWS = 600


def parts(policy: Policy) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = 4 * torch.randn(ROWS, 32, generator=generator)
    return hidden.to(torch.bfloat16).float(), torch.randint(0, 320, (ROWS,), generator=generator)


@pytest.fixture
def policy(make_policy: Callable[..., Policy]) -> Policy:
    """Weights of bfloat16, so that float32 holds the same ones."""
    policy = make_policy()
    policy.model.to(torch.bfloat16).float()
    return policy


def results(policy: Policy, dtype: torch.dtype, *, chunk: int, entropy: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(log-probs, gradient of the head)."""
    hidden, targets = parts(policy)
    model = policy.model.to(dtype)
    model.zero_grad()
    found, _ = token_logprobs(
        model,
        hidden.to(dtype).requires_grad_(),
        targets,
        torch.zeros(0, 2, dtype=torch.int64),
        chunk=chunk,
        entropy_gradient=entropy,
    )
    found.sum().backward()
    gradient = model.get_output_embeddings().weight.grad
    assert gradient is not None and gradient.dtype == dtype
    return found.detach(), gradient.float()


@pytest.mark.parametrize("entropy", [False, True], ids=["written out", "checkpointed"])
def test_log_probs_are_exact_and_the_gradient_is_rounded_once(policy: Policy, entropy: bool) -> None:
    exact, gradient = results(policy, torch.float32, chunk=4, entropy=entropy)
    found, rounded = results(policy, torch.bfloat16, chunk=4, entropy=entropy)
    torch.testing.assert_close(found, exact, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(rounded, gradient.to(torch.bfloat16).float(), atol=0.01, rtol=0.01)
    assert float((rounded - gradient).norm() / gradient.norm()) < 0.003, "chunk by chunk in bfloat16 it is far more"


def test_the_sampler_has_the_same_logits(policy: Policy) -> None:
    hidden, _ = parts(policy)
    exact = head_logits(policy.model, hidden)
    found = head_logits(policy.model.to(torch.bfloat16), hidden.to(torch.bfloat16))
    assert found.dtype == torch.float32 and torch.equal(found, exact)
