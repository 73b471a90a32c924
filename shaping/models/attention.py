"""One attention function for sampling and training. A *plan* describes the layout of the batch.

The function is registered with transformers under `ATTENTION` and works for every model whose layers use the attention
interface. The plan is a keyword argument of the model's forward:

- `Packed`: many sequences laid end to end in one row; block-diagonal causal attention, no padding.
- `shaping.sampling.embedded.cache.Slots`: rows of a key-value cache, with different lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from shaping.models.fused_attention import grouped_attention, packed_attention, repeated

ATTENTION = "shaping"
"""Name of the attention function in transformers' registry."""
SCORES = 2**28
"""Scores of attention that exist at a time, where no fused kernel is used: 1 GiB in float32."""
_HARMLESS = frozenset({"position_ids", "cache_position", "num_items_in_batch", "output_router_logits", "use_cache"})
"""Arguments that layers hand to attention functions and that say nothing about attention."""
_planned: ContextVar[bool] = ContextVar("planned", default=False)


@dataclass(frozen=True, slots=True)
class Rules:
    """What a layer asks of its attention, beside causality."""

    scale: float | None = None
    """Factor of the scores; None: one over the root of the head's size."""
    window: int | None = None
    """Number of last tokens, the present one included, that a token sees; None: all."""
    softcap: float | None = None
    """Scores are squashed to (-softcap, softcap), as in Gemma 2."""
    sinks: Tensor | None = None
    """Scores [H] of a token that takes attention and gives nothing, as in gpt-oss."""


class Plan(Protocol):
    """Layout of a batch, and attention within it."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """Attention of one layer: query [B, H, Q, D], key and value [B, Hkv, Q, D] after rotary embedding.

        Returns: [B, H, Q, D].
        """


@dataclass(frozen=True, slots=True)
class Packed:
    """Sequences laid end to end in one row of tokens."""

    starts: Sequence[int]
    """Sequence i is tokens[starts[i] : starts[i + 1]]; the last entry is the number of tokens."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        if query.is_cuda:
            scale, window, softcap, sinks = rules.scale, rules.window, rules.softcap, rules.sinks
            return packed_attention(
                query, key, value, self.starts, scale=scale, window=window, softcap=softcap, sinks=sinks
            )
        lengths = [b - a for a, b in pairwise(self.starts)]
        # split() rather than slices: the gradient of each slice would be a tensor as large as the whole row.
        parts = zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True)
        return torch.cat([attend(q, k, v, None, rules) for q, k, v in parts], dim=2)


FEW = 4
"""Queries of a decoding step. For so few, and heads in groups, torch is four times slower on a CPU in bfloat16."""


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rules: Rules) -> Tensor:
    """Attention of query [B, H, Q, D] to key and value [B, Hkv, K, D].

    Args:
        mask: True where a query sees a key, [B or 1, 1, Q, K], the window included; None: causal within the window.
    """
    length = query.shape[2]
    causal = mask is None and length > 1  # a single query sees every key
    if causal and rules.window is not None and length > rules.window:
        mask, causal = _band(length, rules.window, query.device), False
    grouped = query.shape[1] != key.shape[1]
    if rules.softcap is None and rules.sinks is None:
        if grouped and not causal and (query.is_cuda or (length <= FEW and query.dtype != torch.float32)):
            return grouped_attention(query, key, value, mask, rules.scale)
        if grouped and query.is_cuda:
            key, value, grouped = repeated(key, query), repeated(value, query), False
        return F.scaled_dot_product_attention(
            query, key, value, mask, is_causal=causal, scale=rules.scale, enable_gqa=grouped
        )
    if causal:
        mask = _band(length, length, query.device)
    return _explicit(query, key, value, mask, rules)


def _explicit(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, rules: Rules) -> Tensor:
    """Attention whose scores [B, H, Q, K] exist, since the fused kernels know neither soft cap nor sinks.

    They exist for as many rows at a time as `SCORES` allows: prompts of many episodes are read together.
    """
    rows = max(SCORES // (query.shape[1] * query.shape[2] * key.shape[2]), 1)
    if rows < query.shape[0]:
        shared = mask is None or mask.dim() == 2 or mask.shape[0] == 1
        masks = [mask] * -(-query.shape[0] // rows) if shared else mask.split(rows)  # type: ignore[union-attr]
        parts = zip(query.split(rows), key.split(rows), value.split(rows), masks, strict=True)
        return torch.cat([_explicit(q, k, v, m, rules) for q, k, v, m in parts])
    key, value = repeated(key, query), repeated(value, query)
    scores = (query @ key.transpose(2, 3)) * (query.shape[-1] ** -0.5 if rules.scale is None else rules.scale)
    if rules.softcap is not None:
        scores = torch.tanh(scores / rules.softcap) * rules.softcap
    if mask is not None:
        scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
    if rules.sinks is not None:
        sinks = rules.sinks.to(scores.dtype).reshape(1, -1, 1, 1).expand(scores.shape[0], -1, scores.shape[2], -1)
        scores = torch.cat([scores, sinks], dim=-1)
    weights = torch.softmax(scores.float(), dim=-1).to(value.dtype)
    return weights[..., : key.shape[2]] @ value


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """Mask [length, length] of a causal window."""
    ago = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return (ago >= 0) & (ago < window)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    plan: Plan | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    asked = {name: value for name, value in others.items() if name not in _HARMLESS and value is not None}
    asked = {name: value for name, value in asked.items() if not (name.startswith("output_") and value is False)}
    if asked.pop("is_causal", True) is False:
        asked["is_causal"] = False
    if asked:
        raise ValueError(f"{type(module).__name__} asks for attention with {', '.join(sorted(asked))}, unknown here")
    rules = Rules(scaling, sliding_window, softcap, s_aux)
    if plan is None:
        out = attend(query, key, value, attention_mask, rules)
    else:
        out = plan.attend(int(module.layer_idx), query, key, value, rules)  # type: ignore[arg-type]
    return out.transpose(1, 2).contiguous(), None


def _mask(**settings: Any) -> Tensor | None:
    """The usual mask, for `generate` and for padded rows; none under a plan, which has its own."""
    return None if _planned.get() else sdpa_mask(**settings)


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, _mask)


@contextmanager
def without_masks() -> Iterator[None]:
    """Inside the block models build no mask: for a forward pass with a plan."""
    token = _planned.set(True)
    try:
        yield
    finally:
        _planned.reset(token)
