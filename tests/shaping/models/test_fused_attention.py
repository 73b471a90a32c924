"""Kernels for a GPU give the attention of the plain code. What needs a GPU itself is in `make gpu-check`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from shaping.models import fused_attention
from shaping.models.attention import Packed, Rules, attend
from shaping.models.fused_attention import grouped_attention, kernel_of, packed_attention

STARTS = [0, 5, 6, 30]
SINKS = torch.tensor([0.5, -1.0, 2.0, 0.0])


def heads(dtype: torch.dtype = torch.float32, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    """Query of 4 heads, key and value of 2, for 30 tokens, in the memory layout that models give them."""
    torch.manual_seed(0)
    return tuple(torch.randn(1, 30, n, size, dtype=dtype).transpose(1, 2) for n in (4, 2, 2))  # type: ignore[return-value]


def reference_varlen(
    query: Tensor, key: Tensor, value: Tensor, of: Tensor, to: Tensor, longest: int, _: int, **options: Any
) -> Tensor:
    """What torch documents of `varlen_attn`, one sequence at a time: rows [T, H, D], (left, right) windows."""
    left, right = options["window_size"]
    assert right == 0 and torch.equal(of, to) and of.dtype == torch.int32
    assert longest == int(of.diff().max())
    parts = []
    for start, stop in pairwise(of.tolist()):
        ago = torch.arange(stop - start)[:, None] - torch.arange(stop - start)
        mask = (ago >= 0) & ((left < 0) | (ago <= left))
        q, k, v = (t[start:stop].transpose(0, 1)[None] for t in (query, key, value))
        k, v = (t.repeat_interleave(q.shape[1] // t.shape[1], 1) for t in (k, v))
        weights = ((q @ k.transpose(2, 3)) * (options["scale"] or q.shape[-1] ** -0.5)).masked_fill(~mask, -torch.inf)
        parts.append((weights.softmax(-1) @ v)[0].transpose(0, 1))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [None, 7, 100])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_varlen_gets_offsets_and_windows_as_it_reads_them(
    window: int | None, scale: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused_attention, "kernel_of", lambda *_, **__: "varlen")
    monkeypatch.setattr(fused_attention.varlen, "varlen_attn", reference_varlen)
    rules = Rules(scale, window)
    found = packed_attention(*heads(), STARTS, scale=scale, window=window, softcap=None, sinks=None)
    torch.testing.assert_close(found, Packed(STARTS).attend(0, *heads(), rules))


@pytest.mark.parametrize(
    "rules",
    [
        Rules(),
        Rules(scale=0.3, softcap=2.0),
        Rules(window=7),
        Rules(sinks=SINKS),
        Rules(0.3, 7, 2.0, SINKS),
    ],
    ids=["plain", "soft cap", "window", "sinks", "all"],
)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_flex_knows_soft_caps_windows_and_sinks(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_attention, "kernel_of", lambda *_, **__: "flex")
    options = {"scale": rules.scale, "window": rules.window, "softcap": rules.softcap, "sinks": rules.sinks}
    found = packed_attention(*heads(), STARTS, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(found, Packed(STARTS).attend(0, *heads(), rules))


def reference_jagged(query: Tensor, key: Tensor, value: Tensor, *, is_causal: bool, scale: float | None) -> Tensor:
    """Attention of nested tensors [sequences, H, tokens, D], one sequence at a time: on a CPU torch has none."""
    parts = [
        attend(q[None], k[None], v[None], None, Rules(scale))[0].transpose(0, 1)
        for q, k, v in zip(query.unbind(), key.unbind(), value.unbind(), strict=True)
    ]
    assert is_causal
    return torch.nested.as_nested_tensor(parts, layout=torch.jagged).transpose(1, 2)


def test_nested_tensors_give_the_same_attention_and_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = F.scaled_dot_product_attention

    def attention(query: Tensor, *others: Any, **options: Any) -> Tensor:
        return (reference_jagged if query.is_nested else plain)(query, *others, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    results = []
    for jagged in (True, False):
        query, key, value = (tensor.detach().requires_grad_() for tensor in heads())
        if jagged:
            out = packed_attention(query, key, value, STARTS, scale=None, window=None, softcap=None, sinks=None)
        else:
            out = Packed(STARTS).attend(0, query, key, value, Rules())
        out.square().sum().backward()
        results.append((out, query.grad, key.grad, value.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("window", [None, 1, 100, 128, 200, 5000])
@pytest.mark.parametrize("starts", [(0, 9), (0, 128, 256), (0, 5, 400, 401, 900), (0, 1000)])
def test_blocks_hold_all_that_is_seen_and_are_whole_where_they_say_so(
    starts: tuple[int, ...], window: int | None
) -> None:
    blocks = fused_attention._visible(starts, torch.device("cpu"), window)
    length = blocks.seq_lengths[0]
    assert length % 128 == 0 and 256 <= length < starts[-1] + 256
    at = torch.arange(length)
    seen = blocks.mask_mod(torch.tensor(0), torch.tensor(0), at[:, None], at)
    inside = seen[: starts[-1], : starts[-1]]
    sequence = torch.bucketize(at[: starts[-1]], torch.tensor(starts[1:]), right=True)
    ago = at[: starts[-1], None] - at[: starts[-1]]
    expected = (sequence[:, None] == sequence) & (ago >= 0) & (ago < (window or length))
    assert torch.equal(inside, expected)
    by_block = seen.unflatten(0, (-1, 128)).unflatten(2, (-1, 128)).transpose(1, 2)
    listed = {}
    for name in ("kv", "full_kv"):
        number, indices = (getattr(blocks, f"{name}_{part}")[0, 0] for part in ("num_blocks", "indices"))
        listed[name] = {(i, int(j)) for i, row in enumerate(indices) for j in row[: number[i]]}
    assert not listed["kv"] & listed["full_kv"]
    assert {tuple(p) for p in by_block.any(-1).any(-1).nonzero().tolist()} <= listed["kv"] | listed["full_kv"]
    assert {tuple(p) for p in by_block.all(-1).all(-1).nonzero().tolist()} == listed["full_kv"]


@pytest.mark.parametrize("queries", [1, 6])
@pytest.mark.parametrize("rows", [1, 3])
def test_heads_that_share_keys_are_more_queries(queries: int, rows: int) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(3, 4, queries, 16), torch.randn(3, 2, 9, 16)
    mask = torch.rand(rows, 1, queries, 9) > 0.3
    mask[..., 0] = True
    found = grouped_attention(query, key, key, mask, 0.2)
    torch.testing.assert_close(found, attend(query, key, key, mask, Rules(0.2)))


def test_every_case_has_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(dtype: torch.dtype = torch.bfloat16, size: int = 16, value: int = 16, **options: Any) -> str:
        query = torch.empty(1, 4, 30, size, dtype=dtype)
        return kernel_of(query, query[..., :value], 24, **{"window": None, "plain": True, **options})

    for capability, half in (((9, 0), "varlen"), ((7, 5), "jagged")):
        monkeypatch.setattr(fused_attention, "_capability", lambda _, found=capability: found)
        assert kernel() == half
        assert kernel(window=24) == half  # no sequence is longer
        assert kernel(value=8) == "jagged"
        assert kernel(torch.float32) == "jagged"
        assert kernel(size=512) == "jagged"
        assert kernel(torch.float32, window=23) == "flex"
        assert kernel(plain=False) == "flex"
    monkeypatch.setattr(fused_attention, "_capability", lambda _: (9, 0))
    assert kernel(window=23) == "varlen"
