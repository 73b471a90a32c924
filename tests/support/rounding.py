"""Are float32 results the same but for rounding? Kernels differ between CPUs, and with the shapes they are given."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

EPSILON = torch.finfo(torch.float32).eps


def assert_same_but_rounding(found: Sequence[Tensor], expected: Sequence[Tensor], *, units: float = 64.0) -> None:
    """Each tensor within `units` float32 roundings of the expected one, relative to its norm.

    Not element by element: a sum that is taken in another order errs relative to its largest terms, and the smallest
    element of a gradient is a difference of large ones.
    """
    apart = roundings_apart(found, expected)
    assert max(apart) <= units, f"{max(apart):.3g} roundings apart, in tensor {apart.index(max(apart))}"


def roundings_apart(found: Sequence[Tensor], expected: Sequence[Tensor]) -> list[float]:
    """How many float32 roundings each tensor is from the expected one, relative to the latter's norm."""
    assert [ours.shape for ours in found] == [theirs.shape for theirs in expected] != []
    return [
        0.0 if torch.equal(ours, theirs) else float((ours - theirs).norm() / (theirs.norm() * EPSILON))
        for ours, theirs in zip(found, expected, strict=True)
    ]
