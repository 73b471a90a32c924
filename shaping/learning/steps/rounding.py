"""Rounding to bfloat16 at random: on average nothing is lost, however small a change is.

The random bits of an element follow from a key and its place in the whole tensor. They are the same on every device,
in every shard and in a resumed run, and no state of a generator has to be saved.
"""

from __future__ import annotations

import torch
from torch import Tensor

_LOW = 0xFFFF
"""The bits that bfloat16 does not keep."""


def random_bits(key: int, start: int, count: int, device: torch.device) -> Tensor:
    """48 random bits for each of the elements `start` to `start + count` of a tensor, as int64 [count].

    SplitMix64 (Steele, Lea and Flood 2014) of the key and the element's number. `key` is a signed 64-bit number.
    """
    bits = torch.arange(start, start + count, dtype=torch.int64, device=device)
    bits.mul_(_signed(0x9E3779B97F4A7C15)).add_(key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        bits.bitwise_xor_((bits >> shift).bitwise_and_((1 << 64 - shift) - 1)).mul_(_signed(factor))
    return bits.bitwise_and_((1 << 48) - 1)


def rounded(values: Tensor, bits: Tensor, draw: int) -> Tensor:
    """Round float32 to bfloat16: to the neighbour away from zero with the probability that makes the mean exact.

    Args:
        values: what to round [n].
        bits: `random_bits` [n]; they serve three independent roundings.
        draw: which of the three, from 0.
    """
    noise = (bits >> 16 * draw).bitwise_and_(_LOW).to(torch.int32)
    return noise.add_(values.view(torch.int32)).bitwise_and_(~_LOW).view(torch.float32).to(torch.bfloat16)


def _signed(number: int) -> int:
    """The signed number with the same 64 bits."""
    return number - (1 << 64) if number >> 63 else number
