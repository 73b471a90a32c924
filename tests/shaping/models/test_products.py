"""Products for tensor cores, on a CPU: the same numbers as converted weights give."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from shaping.learning.losses import logprobs
from shaping.learning.losses.logprobs import token_logprobs
from shaping.models import head, products
from shaping.models.forward import adopt, head_logits
from shaping.models.products import halves, multiplied

WORDS, HIDDEN, ROWS = 300, 32, 40


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": HIDDEN, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    return adopt(LlamaForCausalLM(LlamaConfig(vocab_size=WORDS, **sizes)).bfloat16().eval())


@pytest.fixture
def on_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU with tensor cores."""
    for module in (products, logprobs, head):
        monkeypatch.setattr(module, "on_tensor_cores", lambda weight: weight.dtype == torch.bfloat16)


def test_a_product_of_halves_has_sixteen_bits() -> None:
    left, right = torch.randn(50, 3000), torch.randn(3000, 20).bfloat16()
    exact = left.double() @ right.double()
    error = (multiplied(halves(left), halves(right)).double() - exact).norm() / exact.norm()
    rounded = (left.bfloat16().double() @ right.double() - exact).norm() / exact.norm()
    assert error < 2**-16 < 2**-10 < rounded


def read(model: LlamaForCausalLM) -> list[torch.Tensor]:
    """Log-probs, entropies, and gradients of hidden states and weights."""
    hidden = torch.randn(ROWS, HIDDEN, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_()
    targets = torch.arange(ROWS) * 7 % WORDS
    masked = torch.tensor([[0, 5], [3, 9], [7, ~int(targets[7])]])
    model.zero_grad()
    logp, entropy = token_logprobs(model, hidden, targets, masked, temperature=0.7, chunk=16)
    (logp * torch.linspace(-1, 2, ROWS)).sum().backward()
    weight = model.get_output_embeddings().weight.grad
    assert hidden.grad is not None and weight is not None
    return [x.detach().float() for x in (logp, entropy, hidden.grad, weight)]


def test_log_probs_and_gradients_are_those_of_float32_weights(
    model: LlamaForCausalLM, request: pytest.FixtureRequest
) -> None:
    plain = read(model)
    request.getfixturevalue("on_cores")
    for ours, theirs in zip(read(model), plain, strict=True):
        assert (ours - theirs).norm() <= 2e-3 * theirs.norm()  # gradients are rounded to bfloat16 at the end
    torch.testing.assert_close(read(model)[0], plain[0], atol=1e-5, rtol=0)


@pytest.mark.usefixtures("on_cores")
def test_an_engine_reads_the_same_logits(model: LlamaForCausalLM) -> None:
    hidden = torch.randn(2, 3, HIDDEN).bfloat16()
    with torch.no_grad():
        fast = head_logits(model, hidden)
    assert fast.shape == (2, 3, WORDS) and fast.dtype == torch.float32
    torch.testing.assert_close(fast, head_logits(model, hidden).detach(), atol=1e-5, rtol=0)
