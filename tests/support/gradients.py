"""Gradients by autograd, of losses and of updates."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from shaping.learning.policy import Policy

Loss = Callable[[Tensor], Tensor]


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def gradient(loss: Loss, at: Tensor) -> Tensor:
    leaf = at.clone().requires_grad_()
    loss(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


def copied(policy: Policy) -> Policy:
    """With weights of its own, which may change."""
    return copy.deepcopy(policy)
