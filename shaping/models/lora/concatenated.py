"""Several LoRA adapters as one, for engines that apply one adapter at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class LoRAWeights(NamedTuple):
    """An adapter in numbers: it adds alpha / rank * B A x to the output of every module that it adapts."""

    tensors: Mapping[str, Tensor]
    """`<module>.lora_A.weight` [rank, in] and `<module>.lora_B.weight` [out, rank]."""
    rank: int
    """Rank in all modules."""
    alpha: float
    """LoRA alpha."""


def concatenated(adapters: Sequence[LoRAWeights]) -> LoRAWeights:
    """One adapter whose output is the sum of the outputs of all.

    s1 B1 A1 + s2 B2 A2 = [s1 B1, s2 B2] [A1; A2], with s = alpha / rank. The scalings go into B, so the result's own
    is 1. A module that only some of them adapt has zeros in place of the others: its rank is that of all modules.
    A single adapter is returned as it is.

    Raises: ValueError without adapters, or if an adapter's tensors are not of its rank.
    """
    if not adapters:
        raise ValueError("there is no adapter to concatenate")
    for adapter in adapters:
        for name, tensor in adapter.tensors.items():
            if tensor.shape[0 if ".lora_A." in name else 1] != adapter.rank:
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}, which is not of rank {adapter.rank}")
    if len(adapters) == 1:
        return adapters[0]
    modules = dict.fromkeys(name.partition(".lora_")[0] for adapter in adapters for name in adapter.tensors)
    tensors: dict[str, Tensor] = {}
    for module in modules:
        a, b = (_parts(adapters, f"{module}.lora_{matrix}.weight") for matrix in "AB")
        tensors[f"{module}.lora_A.weight"] = torch.cat(a, dim=0)
        scaled = [part * (adapter.alpha / adapter.rank) for part, adapter in zip(b, adapters, strict=True)]
        tensors[f"{module}.lora_B.weight"] = torch.cat(scaled, dim=1)
    return LoRAWeights(tensors, *joint([(adapter.rank, adapter.alpha) for adapter in adapters]))


def joint(adapters: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """(rank, alpha) of what `concatenated` makes of adapters with these (rank, alpha)."""
    if len(adapters) == 1:
        return adapters[0]
    rank = sum(rank for rank, _ in adapters)
    return rank, float(rank)


def _parts(adapters: Sequence[LoRAWeights], name: str) -> list[Tensor]:
    """The matrix `name` of each adapter, zeros for those that do not adapt its module."""
    like = next(adapter.tensors[name] for adapter in adapters if name in adapter.tensors)
    rows = ".lora_A." in name
    return [
        adapter.tensors[name]
        if name in adapter.tensors
        else like.new_zeros((adapter.rank, like.shape[1]) if rows else (like.shape[0], adapter.rank))
        for adapter in adapters
    ]
