"""Products of an output layer in float32, by the tensor cores of a GPU where the weights are bfloat16.

A product of two bfloat16 numbers is exact in float32, in which tensor cores add them up: nothing is lost by not
converting the weights first, and the product is several times faster. A float32 factor is split into two bfloat16
numbers, which hold 16 of its 24 bits; the rest is below the error of adding up a vocabulary.
"""

from __future__ import annotations

from functools import reduce
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional

Halves = tuple[Tensor, ...]
"""bfloat16 matrices whose sum is a factor."""


def on_tensor_cores(weight: Tensor) -> bool:
    """Are products with this weight made of halves? Otherwise it is converted to float32."""
    return weight.is_cuda and weight.dtype == torch.bfloat16


def halves(factor: Tensor) -> Halves:
    """A bfloat16 factor itself, or two parts of a float32 one."""
    if factor.dtype == torch.bfloat16:
        return (factor,)
    high = factor.to(torch.bfloat16)
    return high, (factor - high).to(torch.bfloat16)


def multiplied(left: Halves, right: Halves) -> Tensor:
    """The product float32 [m, n] of left [m, k] and right [k, n]."""
    return reduce(Tensor.add_, (_product(a, b) for a, b in product(left, right)))


def head_product(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Logits float32 [rows, vocabulary] of hidden states [rows, hidden]; weight float32, or `on_tensor_cores`."""
    if not on_tensor_cores(weight):
        return functional.linear(hidden.float(), weight, bias)
    logits = multiplied(halves(hidden), halves(weight.T))
    return logits if bias is None else logits.add_(bias)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """The product of bfloat16 matrices, added up and returned in float32."""
    if left.is_cuda:
        return torch.mm(left, right, out_dtype=torch.float32)
    return left.float() @ right.float()  # the same numbers; CPUs have no such product
