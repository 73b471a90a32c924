"""Gaussian noise on the weights of a model, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def weight_noise(model: nn.Module, scale: float, seed: int) -> Iterator[None]:
    """Within the block every weight w of a matrix W is w + scale * rms(W) * z, with z standard normal.

    The scale is relative to each tensor's root mean square, so that layers of all sizes are disturbed alike (Tice et
    al., arXiv:2412.01784). Equal seeds give equal noise, on any device. Afterwards the weights are bit-identical to
    what they were, also after an error; they are kept in memory meanwhile. Scale 0 changes nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    kept: list[tuple[torch.Tensor, torch.Tensor]] = []
    try:
        with torch.no_grad():
            for parameter in model.parameters() if scale else ():
                drawn = torch.randn(parameter.shape, generator=generator).to(parameter.device)
                kept.append((parameter, parameter.detach().clone()))
                size = parameter.detach().float().square().mean().sqrt()
                parameter.copy_((parameter.float() + scale * size * drawn).to(parameter.dtype))
        yield
    finally:
        with torch.no_grad():
            for weights, original in kept:
                weights.copy_(original)
