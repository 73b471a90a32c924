"""Log-probs and entropy in chunks: the full [tokens, vocabulary] tensor never exists, forward or backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from shaping.models.forward import head_logits, head_of
from shaping.models.head import exact_head, is_plain
from shaping.models.products import halves, head_product, multiplied, on_tensor_cores

CHUNK = 2**23
"""Number of logits in one chunk on a CPU: 32 MiB in float32, enough for an efficient matrix product."""
CUDA_CHUNKS = 2**21, 2**28
"""Smallest and largest number on a GPU, whose matrix products want hundreds of rows."""
CUDA_SHARE = 0.25
"""Share of a GPU's free memory that one chunk may take."""
CUDA_BYTES = 16
"""Bytes of one logit there: in float32, with its exponential, its gradient and what the softmax needs."""
IMPOSSIBLE = -1e4
"""A log-prob whose exp is zero in float32. It is finite, so that zero times it is zero."""


def token_logprobs(
    model: PreTrainedModel,
    hidden: Tensor,
    targets: Tensor,
    masked_tokens: Tensor,
    *,
    temperature: float = 1.0,
    chunk: int = 0,
    entropy_gradient: bool = False,
) -> tuple[Tensor, Tensor]:
    """Log-probs and entropies from hidden states. With several chunks the backward pass computes their logits again.

    Args:
        model: gives the output layer.
        hidden: hidden states [m, hidden].
        targets: token ids [m].
        masked_tokens: (row, token id) pairs [k, 2] with probability zero, as in sampling; in rows of pairs (row, ~id)
            every other token has.
        temperature: divisor of the logits; 0 counts as 1.
        chunk: tokens per chunk; 0: from the size of the vocabulary, and on a GPU from its free memory.
        entropy_gradient: keep the gradient of the entropy; otherwise it is detached.
    Returns: (log-prob of each target [m], entropy of each distribution [m]).
    """
    if not len(targets):
        return hidden.new_zeros(0, dtype=torch.float32), hidden.new_zeros(0, dtype=torch.float32)
    head = model.get_output_embeddings()
    chunk = chunk or max(chunk_logits(hidden.device) // head.weight.shape[0], 16)
    temperature = temperature or 1.0
    arithmetic = head_of(model)
    plain = is_plain(head) and not arithmetic.cap
    if plain and not entropy_gradient and (len(targets) > chunk or on_tensor_cores(head.weight)):
        logprobs, entropies = _LinearLogprobs.apply(
            hidden, head.weight, head.bias, targets, masked_tokens, temperature / arithmetic.scale, chunk
        )
        return logprobs, entropies
    pieces, exact = [], exact_head(model)
    for start, stop, masked in _chunks(len(targets), chunk, masked_tokens):
        args = (model, hidden[start:stop], targets[start:stop], masked, temperature, entropy_gradient, exact)
        if torch.is_grad_enabled() and hidden.requires_grad and len(targets) > chunk:
            pieces.append(checkpoint(_chunk, *args, use_reentrant=False))
        else:
            pieces.append(_chunk(*args))
    return torch.cat([logp for logp, _ in pieces]), torch.cat([entropy for _, entropy in pieces])


def chunk_logits(device: torch.device) -> int:
    """Number of logits in one chunk. On a GPU a power of two, so that a little more or less free memory changes no sum.

    Memory that torch holds and does not use counts as free.
    """
    if device.type != "cuda":
        return CHUNK
    free = torch.cuda.mem_get_info(device)[0]
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    fitting = max(int(free * CUDA_SHARE) // CUDA_BYTES, 1)
    smallest, largest = CUDA_CHUNKS
    return min(max(1 << fitting.bit_length() - 1, smallest), largest)


def _chunks(count: int, chunk: int, masked_tokens: Tensor) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (start, stop, the pairs of masked_tokens in these rows, with rows counted from start)."""
    for start in range(0, count, chunk):
        stop = min(start + chunk, count)
        if len(masked_tokens):
            inside = (masked_tokens[:, 0] >= start) & (masked_tokens[:, 0] < stop)
            yield start, stop, masked_tokens[inside] - torch.tensor([start, 0], device=masked_tokens.device)
        else:
            yield start, stop, masked_tokens


def _chunk(
    model: PreTrainedModel,
    hidden: Tensor,
    targets: Tensor,
    masked: Tensor,
    temperature: float,
    entropy_gradient: bool,
    exact: tuple[Tensor, Tensor | None] | None,
) -> tuple[Tensor, Tensor]:
    logits = head_logits(model, hidden, exact) / temperature
    if len(masked):
        logits = logits.masked_fill(_impossible(logits, masked), -torch.inf)
    logp = torch.log_softmax(logits, dim=-1)
    picked = logp.gather(1, targets[:, None])[:, 0]
    # The entropy comes last, so that the backward pass does not compute it again unless it has a gradient.
    with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
        entropy = -(logp.exp() * logp.clamp_min(IMPOSSIBLE)).sum(-1)
    return picked, entropy


def _impossible(logits: Tensor, masked: Tensor) -> Tensor:
    """True for tokens that could not be sampled: those of pairs (row, id), and all but those of pairs (row, ~id)."""
    rows, ids = masked.unbind(1)
    kept = ids < 0
    impossible = torch.zeros_like(logits, dtype=torch.bool)
    impossible[rows[kept]] = True
    impossible[rows, torch.where(kept, ~ids, ids)] = ~kept
    return impossible


class _LinearLogprobs(torch.autograd.Function):
    """`_chunk` for a plain linear head, with an explicit gradient in place: a third of the passes over logits.

    The gradient of a row's logits is g (onehot(target) - p), with p the distribution of the row and g the gradient of
    its log-prob.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        masked_tokens: Tensor,
        temperature: float,
        chunk: int,
    ) -> tuple[Tensor, Tensor]:
        logprobs = hidden.new_empty(len(targets), dtype=torch.float32)
        entropies = torch.empty_like(logprobs)
        exact, offset = _factors(weight, bias)
        for start, stop, masked in _chunks(len(targets), chunk, masked_tokens):
            logp = _log_distribution(hidden[start:stop], exact, offset, masked, temperature)
            logprobs[start:stop] = logp.gather(1, targets[start:stop, None])[:, 0]
            if len(masked):
                logp.clamp_min_(IMPOSSIBLE)
            entropies[start:stop] = -torch.linalg.vecdot(logp.exp(), logp)
        ctx.save_for_backward(hidden, weight, bias, targets, masked_tokens)
        ctx.temperature, ctx.chunk = temperature, chunk
        ctx.mark_non_differentiable(entropies)
        return logprobs, entropies

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> Any:
        hidden, weight, bias, targets, masked_tokens = ctx.saved_tensors
        needs_hidden, needs_weight, needs_bias = ctx.needs_input_grad[:3]
        exact, offset = _factors(weight, bias)
        fast = on_tensor_cores(exact)
        to_hidden = torch.empty_like(hidden) if needs_hidden else None
        # in float32: a sum over chunks in 16 bits loses the later ones
        to_weight = torch.zeros_like(exact, dtype=torch.float32) if needs_weight else None
        to_bias = torch.zeros_like(offset) if offset is not None and needs_bias else None
        for start, stop, masked in _chunks(len(targets), ctx.chunk, masked_tokens):
            rows = slice(start, stop)
            logits = _log_distribution(hidden[rows], exact, offset, masked, ctx.temperature).exp_()
            scale = gradient[rows, None] / ctx.temperature
            logits.mul_(-scale)
            logits.scatter_add_(1, targets[rows, None], scale)
            if fast:
                parts = halves(logits)
                if to_hidden is not None:
                    to_hidden[rows] = multiplied(parts, halves(exact))
                if to_weight is not None:
                    to_weight += multiplied(tuple(part.T for part in parts), halves(hidden[rows]))
            else:
                if to_hidden is not None:
                    to_hidden[rows] = logits @ exact
                if to_weight is not None:
                    to_weight.addmm_(logits.T, hidden[rows].float())
            if to_bias is not None:
                to_bias += logits.sum(0)
        of_weight = None if to_weight is None else to_weight.to(weight.dtype)
        of_bias = None if to_bias is None or bias is None else to_bias.to(bias.dtype)
        return to_hidden, of_weight, of_bias, None, None, None, None


def _factors(weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a head as they are multiplied: float32, or the weight as it is where that loses nothing."""
    return weight if on_tensor_cores(weight) else weight.float(), None if bias is None else bias.float()


def _log_distribution(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, masked: Tensor, temperature: float
) -> Tensor:
    """Log-probs [rows, vocabulary] in float32, from weights of `_factors`."""
    logits = head_product(hidden, weight, bias)
    if temperature != 1.0:
        logits.div_(temperature)
    if len(masked):
        logits.masked_fill_(_impossible(logits, masked), -torch.inf)
    return logits.sub_(torch.logsumexp(logits, dim=-1, keepdim=True))
