"""Attention of packed sequences on a GPU: one fused kernel per layer. Memory grows with the number of tokens.

Three kernels share the work:

- `varlen`: FlashAttention over sequences of different lengths, for half precision.
- `jagged`: the memory-efficient kernel over nested tensors, for float32 and for GPUs without FlashAttention.
- `flex`: a kernel compiled by `flex_attention`, for what the others do not know: soft caps, sinks, and windows in
  float32.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import flex_attention as flex
from torch.nn.attention import varlen

Kernel = Literal["varlen", "jagged", "flex"]
LOG = logging.getLogger(__name__)
BLOCK = 128
"""Tokens of a block of the compiled kernel."""
RECOMPILED = 64
"""Variants of the kernel that are compiled at most: types, gradients, soft caps. torch's own limit of 8 is soon
reached, and beyond it attention would hold all scores without a word."""
_AMPERE = (8, 0)


def kernel_of(query: Tensor, value: Tensor, longest: int, *, window: int | None, plain: bool) -> Kernel:
    """The kernel for query [1, H, T, D] and value [1, Hkv, T, Dv].

    Args:
        longest: tokens of the longest sequence.
        window: tokens that a token sees; None: all.
        plain: the layer has neither soft cap nor sinks.
    """
    if not plain:
        return "flex"
    size = query.shape[-1]
    half = query.dtype in (torch.float16, torch.bfloat16)
    if half and size == value.shape[-1] and size % 8 == 0 and size <= 256 and _capability(query.device) >= _AMPERE:
        return "varlen"
    return "jagged" if window is None or window >= longest else "flex"


def packed_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    starts: Sequence[int],
    *,
    scale: float | None,
    window: int | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Causal attention within each sequence of a packed row.

    Args:
        query: [1, H, T, D].
        key: [1, Hkv, T, D].
        value: [1, Hkv, T, Dv].
        starts: sequence i is tokens[starts[i] : starts[i + 1]].
        scale, window, softcap, sinks: as in `shaping.models.attention.Rules`.
    Returns: [1, H, T, Dv].
    """
    layout = (tuple(starts), query.device)
    longest = max(b - a for a, b in pairwise(starts))
    kind = kernel_of(query, value, longest, window=window, plain=softcap is None and sinks is None)
    if kind == "varlen":
        return _varlen(query, key, value, _offsets(*layout), longest, scale, window)
    if kind == "jagged":
        return _jagged(query, key, value, _offsets(*layout), longest, scale)
    return _flex(query, key, value, _visible(*layout, window), scale, softcap, sinks)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, scale: float | None, window: int | None
) -> Tensor:
    options: dict[str, Any] = {}
    if key.shape[1] != query.shape[1]:
        if "enable_gqa" in inspect.signature(varlen.varlen_attn).parameters:
            options["enable_gqa"] = True
        else:  # torch 2.11
            key, value = repeated(key, query), repeated(value, query)
    window_size = (-1 if window is None else window - 1, 0)
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    out = varlen.varlen_attn(
        q, k, v, offsets, offsets, longest, longest, scale=scale, window_size=window_size, **options
    )
    return out.transpose(0, 1)[None]  # type: ignore[union-attr]


def _jagged(query: Tensor, key: Tensor, value: Tensor, offsets: Tensor, longest: int, scale: float | None) -> Tensor:
    key, value = repeated(key, query), repeated(value, query)
    q, k, v = (
        torch.nested.nested_tensor_from_jagged(
            tensor[0].transpose(0, 1).contiguous(), offsets.long(), min_seqlen=1, max_seqlen=longest
        ).transpose(1, 2)
        for tensor in (query, key, value)
    )
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
    return out.transpose(1, 2).values().transpose(0, 1)[None]


def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    visible: flex.BlockMask,
    scale: float | None,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    length, padded = query.shape[2], visible.seq_lengths[0]
    query, key, value = (F.pad(tensor, (0, 0, 0, padded - length)) for tensor in (query, key, value))
    cap = torch.tensor(softcap or 1.0, device=query.device)

    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return torch.tanh(score / cap) * cap

    with torch._dynamo.config.patch(recompile_limit=RECOMPILED, fail_on_recompile_limit_hit=True):
        result = _compiled(query.is_cuda)(
            query,
            key,
            value,
            score_mod=None if softcap is None else capped,
            block_mask=visible,
            scale=scale,
            enable_gqa=key.shape[1] != query.shape[1],
            return_aux=None if sinks is None else flex.AuxRequest(lse=True),
        )
    if sinks is None:
        return result[:, :, :length]
    out, total = result[0][:, :, :length], result[1].lse[:, :, :length]
    # A sink adds exp(sink) to the sum that normalises the weights, whose logarithm is `total`.
    return out * torch.sigmoid(total - sinks.to(total.dtype)[None, :, None])[..., None].to(out.dtype)


@lru_cache(maxsize=2)
def _compiled(on_gpu: bool) -> Callable[..., Any]:
    """`flex_attention`; compiled on a GPU, where it would otherwise hold all scores."""
    if not on_gpu:
        return flex.flex_attention
    LOG.info("attention with soft caps, sinks or windows is compiled; the first update takes longer")
    return torch.compile(flex.flex_attention, dynamic=True)


@lru_cache(maxsize=8)
def _offsets(starts: tuple[int, ...], device: torch.device) -> Tensor:
    """Starts as int32 [sequences + 1]. All layers of a pass share them."""
    return torch.tensor(starts, dtype=torch.int32, device=device)


@lru_cache(maxsize=8)
def _visible(starts: tuple[int, ...], device: torch.device, window: int | None) -> flex.BlockMask:
    """Tokens that see each other: within a sequence, causally, at most `window` tokens back.

    The row is padded to whole blocks, at least two: the kernel would be compiled again for one. Padding is a sequence
    of its own. Numbers that differ between rows and layers are tensors, for which nothing is compiled again.
    """
    count = max(-(-starts[-1] // BLOCK), 2)
    length = count * BLOCK
    edges = [*starts, length] if length > starts[-1] else list(starts)
    lengths = torch.tensor([b - a for a, b in pairwise(edges)])
    sequence = torch.arange(len(lengths)).repeat_interleave(lengths)
    reach = length if window is None else window
    first = torch.arange(count) * BLOCK
    last = first + BLOCK - 1
    lowest = torch.maximum(torch.tensor(edges)[sequence[first]], first - reach + 1) // BLOCK
    place = torch.arange(count)
    some = (place >= lowest[:, None]) & (place <= place[:, None])
    every = some & (place < place[:, None])
    every &= (sequence[first] == sequence[last][:, None]) & (last[:, None] - first < reach)
    of_token, limit = sequence.to(device), torch.tensor(reach, device=device)

    def sees(_batch: Tensor, _head: Tensor, to: Tensor, of: Tensor) -> Tensor:
        return (of_token[to] == of_token[of]) & (to >= of) & (to - of < limit)

    return flex.BlockMask.from_kv_blocks(
        *_listed(some & ~every, device),
        *_listed(every, device),
        BLOCK_SIZE=BLOCK,
        mask_mod=sees,
        seq_lengths=(length, length),
    )


def _listed(blocks: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """(number of chosen key blocks of each query block [1, 1, n], their indices, chosen ones first [1, 1, n, n])."""
    order = torch.argsort(~blocks, dim=1, stable=True)
    return blocks.sum(1).int()[None, None].to(device), order.int()[None, None].to(device)


@lru_cache(maxsize=16)
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def grouped_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float | None) -> Tensor:
    """Attention of groups of heads that share keys and values, as if the heads of a group were more queries.

    The kernels of a GPU that take a mask know no groups: torch would fall back to the one that holds all scores, on
    repeated keys and values.

    Args:
        query: [B, H, Q, D].
        key, value: [B, Hkv, K, D].
        mask: True where a query sees a key, [B or 1, 1, Q, K] or [Q, K]; None: it sees all.
    Returns: [B, H, Q, D].
    """
    groups, length = query.shape[1] // key.shape[1], query.shape[2]
    folded = query.unflatten(1, (-1, groups)).flatten(2, 3)
    if mask is not None:
        mask = mask.expand(*(1,) * (4 - mask.dim()), *mask.shape).repeat(1, 1, groups, 1)
    out = F.scaled_dot_product_attention(folded, key, value, mask, scale=scale)
    return out.unflatten(2, (groups, length)).flatten(1, 2)


def repeated(tensor: Tensor, query: Tensor) -> Tensor:
    """Keys or values [B, Hkv, K, D], once for each head of the query: [B, H, K, D]."""
    groups = query.shape[1] // tensor.shape[1]
    return tensor.repeat_interleave(groups, dim=1) if groups > 1 else tensor
