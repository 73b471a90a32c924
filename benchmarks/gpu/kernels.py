"""Which attention kernels run, how right they are, and how their memory grows with the length of a sequence."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.report import Check, Part, broken
from benchmarks.gpu.shapes import release, synchronize
from shaping.models.attention import Packed, Rules, attend

HEADS, KV_HEADS, SIZE = 16, 8, 64
QUADRATIC = re.compile(r"attention_math|_softmax$")
"""Operations of the attention that holds all scores."""
KERNELS = {
    r"flash_attention_forward": "FlashAttention",
    r"efficient_attention_forward": "memory-efficient",
    r"cudnn_attention_forward": "cuDNN",
    r"triton\w*_flex_attention": "flex",
    r"attention_math": "math",
}
"""Names of the kernels, by the operations that a profile shows."""
LINEAR = 2.6
"""Twice the tokens may need at most so many times the memory; four times would be the square."""


Heads = tuple[Tensor, Tensor, Tensor]
"""Query [1, H, T, D], key and value [1, Hkv, T, D]."""


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of attention in training."""

    name: str
    """What it is called."""
    dtype: torch.dtype
    """Type of the activations."""
    rules: Rules
    """What a layer asks."""
    tolerance: float
    """Largest difference from float64 that is rounding, relative to the norm."""


def cases(device: torch.device) -> list[Case]:
    sinks = torch.linspace(-1, 2, HEADS, device=device)
    kinds = {
        "plain": Rules(),
        "windows": Rules(window=200),
        "soft caps": Rules(softcap=20.0),
        "sinks": Rules(sinks=sinks),
        "sinks and windows": Rules(window=200, sinks=sinks),
    }
    types = ((torch.float32, 1e-5), (torch.bfloat16, 1e-2))
    return [Case(f"{k}, {str(t)[6:]}", t, rules, limit) for t, limit in types for k, rules in kinds.items()]


def kernels(device: torch.device, quick: bool) -> Part:
    """The part `kernels`."""
    checks: list[Check] = []
    for case in cases(device)[: 2 if quick else None]:
        try:
            checks += _training(case, device, 256 if quick else 4096)
        except Exception as error:  # the other cases are still looked at
            checks.append(broken(case.name, error))
        release(device)
    for dtype in (torch.bfloat16, torch.float32):
        checks += [_cached(dtype, device, queries) for queries in (1, 64)]
    return Part("kernels", checks)


def _heads(tokens: int, dtype: torch.dtype, device: torch.device) -> Heads:
    torch.manual_seed(0)
    shapes = ((1, tokens, heads, SIZE) for heads in (HEADS, KV_HEADS, KV_HEADS))
    query, key, value = (torch.randn(*s, device=device).to(dtype).transpose(1, 2).requires_grad_() for s in shapes)
    return query, key, value


def _run(starts: list[int], heads: Heads, rules: Rules) -> list[Tensor]:
    """The attention of packed sequences, and the gradients of query, key and value."""
    for tensor in heads:
        tensor.grad = None
    out = Packed(starts).attend(0, *heads, rules)
    (out.float() * torch.linspace(0, 1, out.shape[2], device=out.device)[:, None]).sum().backward()
    return [out.detach(), *(tensor.grad for tensor in heads)]  # type: ignore[list-item]


def _exact(starts: list[int], heads: Heads, rules: Rules) -> list[Tensor]:
    """The same in float64, one sequence at a time."""
    sinks = None if rules.sinks is None else rules.sinks.double()
    found = []
    query, key, value = doubles = [tensor.detach().double().requires_grad_() for tensor in heads]
    for start, stop in pairwise(starts):
        place = (slice(None), slice(None), slice(start, stop))
        # with a mask, a soft cap or sinks the plain code holds all scores, which is exact
        mask = torch.ones(stop - start, stop - start, dtype=torch.bool, device=query.device).tril()
        if rules.window is not None:
            mask &= ~mask.tril(-rules.window)
        plain = Rules(rules.scale, None, rules.softcap, sinks)
        found.append(attend(query[place], key[place], value[place], mask[None, None], plain))
    out = torch.cat(found, dim=2)
    (out * torch.linspace(0, 1, out.shape[2], device=out.device)[:, None]).sum().backward()
    return [out.detach(), *(tensor.grad for tensor in doubles)]  # type: ignore[list-item]


def _training(case: Case, device: torch.device, tokens: int) -> list[Check]:
    starts = [0, tokens // 8, tokens // 8 + 1, tokens // 2, tokens]
    heads = _heads(tokens, case.dtype, device)
    found = _run(starts, heads, case.rules)
    exact = _exact(starts, heads, case.rules)
    error = max(float((a - b).norm() / b.norm()) for a, b in zip(found, exact, strict=True))
    used = _used(lambda: _run(starts, heads, case.rules), device)
    del found, exact
    checks = [
        Check(f"{case.name}: output and gradients", error <= case.tolerance, f"differ by {error:.1e} of their norm"),
        _fused(case.name, used, device),
    ]
    if device.type == "cuda":
        needed = [_peak(case, n, device) for n in (2 * tokens, 4 * tokens)]
        growth = needed[1] / needed[0]
        told = f"{needed[0]:.0f} MiB for {2 * tokens} tokens, {growth:.1f} times that for twice as many"
        checks.append(Check(f"{case.name}: memory", growth <= LINEAR, told))
    return checks


def _fused(name: str, used: set[str], device: torch.device) -> Check:
    if device.type != "cuda":
        return Check(f"{name}: kernel", None, "only on a GPU")
    quadratic = sorted(n for n in used if QUADRATIC.search(n))
    told = _named(used)
    return Check(f"{name}: kernel", not quadratic and bool(told), ", ".join(told) or "none known")


def _named(used: set[str]) -> list[str]:
    return sorted({name for kind, name in KERNELS.items() if any(re.search(kind, n) for n in used)})


def _peak(case: Case, tokens: int, device: torch.device) -> float:
    """MiB that the attention of one long sequence needs beside its arguments, gradients included."""
    heads = _heads(tokens, case.dtype, device)
    _run([0, tokens], heads, case.rules)
    for tensor in heads:
        tensor.grad = None
    release(device)
    synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    _run([0, tokens], heads, case.rules)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def _used(run: Callable[[], Any], device: torch.device) -> set[str]:
    """Names of the operations and kernels of a call."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    with profile(activities=activities) as profiled:
        run()
        synchronize(device)
    return {event.key for event in profiled.key_averages()}


@torch.no_grad()
def _cached(dtype: torch.dtype, device: torch.device, queries: int) -> Check:
    """Attention of new tokens to a cache with rows of different lengths, as in sampling."""
    torch.manual_seed(0)
    query = torch.randn(8, HEADS, queries, SIZE, device=device).to(dtype)
    keys, values = (torch.randn(8, KV_HEADS, 512, SIZE, device=device).to(dtype) for _ in range(2))
    last = torch.randint(100, 512 - queries, (8, 1), device=device) + torch.arange(queries, device=device)
    mask = (torch.arange(512, device=device) <= last[:, :, None])[:, None]
    found = attend(query, keys, values, mask, Rules())
    exact = attend(query.double().cpu(), keys.double().cpu(), values.double().cpu(), mask.cpu(), Rules())
    error = float((found.double().cpu() - exact).norm() / exact.norm())
    name = f"cache, {queries} new tokens, {str(dtype)[6:]}"
    used = _used(lambda: attend(query, keys, values, mask, Rules()), device)
    told = f"differs by {error:.1e} of its norm; {', '.join(_named(used)) or 'no kernel known'}"
    right = error <= (1e-5 if dtype == torch.float32 else 1e-2)
    return Check(name, right and not (device.type == "cuda" and any(QUADRATIC.search(n) for n in used)), told)
