"""Draw tokens by the inverse of the cumulative distribution, on the device that holds the logits."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 4096
"""Tokens that are searched one by one. Larger vocabularies are first searched by the sums of such blocks."""


class Drawing:
    """Draws one token per row: the first whose cumulative probability exceeds the row's uniform number.

    A vocabulary of at most `BLOCK` tokens is summed in float64; in a larger one the sums of blocks are, and then the
    block that holds the token. The probabilities of all tokens are written once, into memory that is kept between
    calls: most of the time would go into new memory. A token without probability is never drawn.
    """

    def __init__(self) -> None:
        self._scratch = torch.empty(0)

    def __call__(self, logits: Tensor, uniforms: Tensor, greedy: Tensor) -> tuple[Tensor, Tensor]:
        """The tokens int64 [rows], and their log-probabilities float32 [rows].

        Args:
            logits: float32 [rows, vocabulary]; -inf for tokens that must not be drawn.
            uniforms: numbers in [0, 1), float64 [rows].
            greedy: rows that take the likeliest token instead, bool [rows].
        Raises: `FloatingPointError` if a row's probabilities are not finite or all zero.
        """
        peak, likeliest = logits.max(-1, keepdim=True)
        if logits.shape[1] <= BLOCK:
            logprobs = torch.log_softmax(logits, dim=-1)
            cumulative = logprobs.double().exp().cumsum(-1)
            drawn = _first(cumulative, uniforms[:, None] * _total(cumulative))
            token = torch.where(greedy[:, None], likeliest, drawn)
            return token[:, 0], logprobs.gather(1, token)[:, 0]
        drawn, total = self._by_blocks(logits, peak, uniforms[:, None])
        token = torch.where(greedy[:, None], likeliest, drawn)
        return token[:, 0], (logits.gather(1, token) - peak - total.log().float())[:, 0]

    def _by_blocks(self, logits: Tensor, peak: Tensor, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """The drawn tokens [rows, 1], and the sum [rows, 1] of all exp(logit - peak)."""
        rows, vocabulary = logits.shape
        if self._scratch.device != logits.device or self._scratch.numel() < logits.numel():
            self._scratch = torch.empty(logits.numel(), device=logits.device)
        weights = self._scratch[: logits.numel()].view(rows, vocabulary)
        torch.sub(logits, peak, out=weights).exp_()
        whole = vocabulary - vocabulary % BLOCK
        sums = [weights[:, :whole].unflatten(1, (-1, BLOCK)).sum(-1), weights[:, whole:].sum(-1, keepdim=True)]
        blocks = torch.cat(sums, dim=1).double().cumsum(-1)
        total = _total(blocks)
        target = uniforms * total
        block = _first(blocks, target)
        before = torch.where(block > 0, blocks.gather(1, (block - 1).clamp_min(0)), 0.0)
        places = block * BLOCK + torch.arange(BLOCK, device=logits.device)
        inner = weights.gather(1, places.clamp_max(vocabulary - 1)).double()
        inner = inner.masked_fill_(places >= vocabulary, 0.0).cumsum(-1)
        return block * BLOCK + _first(inner, target - before), total


def _total(cumulative: Tensor) -> Tensor:
    total = cumulative[:, -1:]
    if not bool(((total > 0) & torch.isfinite(total)).all()):
        raise FloatingPointError("the probabilities of a row are not finite, or all zero")
    return total


def _first(cumulative: Tensor, target: Tensor) -> Tensor:
    """Index of the first sum above the target; of the last positive term if rounding has put the target above all."""
    found = torch.searchsorted(cumulative, target, right=True)
    return torch.minimum(found, torch.searchsorted(cumulative, cumulative[:, -1:].contiguous()))
