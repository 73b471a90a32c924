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
    assert len(found) == len(expected) > 0
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours.shape == theirs.shape, f"tensor {number}: shape {tuple(ours.shape)}, not {tuple(theirs.shape)}"
        apart = float((ours - theirs).norm())
        allowed = units * EPSILON * float(theirs.norm())
        assert apart <= allowed, f"tensor {number} is {apart:.3g} away, more than {allowed:.3g} of rounding"
