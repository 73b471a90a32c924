"""AdamW in float32, or with all it keeps from step to step in bfloat16."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from shaping.learning.config import OptimizerStates
from shaping.learning.ranks.sharding import part
from shaping.learning.steps.rounding import random_bits, rounded

BETAS, EPS = (0.9, 0.999), 1e-8
CHUNK = {"cpu": 2**18, "cuda": 2**24}
"""Elements that a bfloat16 step computes together: in a core's cache, or enough for a GPU."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters that are stepped alike."""

    parameters: Sequence[nn.Parameter]
    lr: float


class AdamW(Protocol):
    """Steps parameters along their gradients."""

    def step(self, gradients: Mapping[nn.Parameter, Tensor], share: float) -> None:
        """Take a step with `share` of each group's learning rate. Parameters without a gradient stay as they are."""

    def clear(self) -> None:
        """Let go of the gradients of the last step."""

    def state_of(self, parameter: nn.Parameter) -> tuple[dict[str, Tensor], float | None]:
        """(what is kept for a parameter, its number of steps; None before the first)."""

    def restore(self, parameter: nn.Parameter, tensors: Mapping[str, Tensor], steps: float | None) -> None:
        """Restore what `state_of` returned."""


class Float32AdamW:
    """torch's AdamW. It steps float32 copies of bfloat16 weights.

    A step is often smaller than the distance between two neighbouring bfloat16 numbers.
    """

    def __init__(self, groups: Sequence[Group], weight_decay: float) -> None:
        self._parameters = [p for group in groups for p in group.parameters]
        self._masters = {p: p.detach().float().clone() for p in self._parameters if p.dtype != torch.float32}
        self._adam = torch.optim.AdamW(
            [{"params": [self._stepped(p) for p in g.parameters], "lr": g.lr, "initial_lr": g.lr} for g in groups],
            lr=groups[0].lr if groups else 0.0,
            weight_decay=weight_decay,
        )

    def step(self, gradients: Mapping[nn.Parameter, Tensor], share: float) -> None:
        """Take a step with `share` of each group's learning rate."""
        for parameter in self._parameters:
            self._stepped(parameter).grad = gradients.get(parameter)
        for group in self._adam.param_groups:
            group["lr"] = share * group["initial_lr"]
        self._adam.step()
        with torch.no_grad():
            for parameter, master in self._masters.items():
                parameter.copy_(master)

    def clear(self) -> None:
        """Let go of the gradients of the last step."""
        self._adam.zero_grad(set_to_none=True)

    def state_of(self, parameter: nn.Parameter) -> tuple[dict[str, Tensor], float | None]:
        """(master weights and moments, number of steps)."""
        state = dict(self._adam.state.get(self._stepped(parameter), {}))
        steps = state.pop("step", None)
        masters = {"master": self._masters[parameter]} if parameter in self._masters else {}
        return masters | state, None if steps is None else float(steps)

    @torch.no_grad()
    def restore(self, parameter: nn.Parameter, tensors: Mapping[str, Tensor], steps: float | None) -> None:
        """Restore what `state_of` returned."""
        stepped = self._stepped(parameter)
        if parameter in self._masters:
            stepped.copy_(part(tensors["master"], stepped))
        if steps is None:
            self._adam.state.pop(stepped, None)
            return
        self._adam.state[stepped] = {"step": torch.tensor(steps), **_moments(tensors, stepped)}

    def _stepped(self, parameter: nn.Parameter) -> Tensor:
        """The tensor that is stepped for a parameter: its float32 copy, or itself."""
        return self._masters.get(parameter, parameter)


class Bfloat16AdamW:
    """AdamW with moments in bfloat16, and without copies of bfloat16 weights: 6 bytes per weight in place of 14.

    A step is computed in float32 and its results are rounded at random, so that small steps add up on average, and so
    do the small changes of the second moment. Weights in float32 are not rounded. The price is noise: a weight that a
    step moves by a share q of the distance between two bfloat16 numbers moves by all of it with probability q.

    Args:
        groups: parameters and their learning rates.
        weight_decay: weight decay of all groups.
        seed: seed of the rounding.
    """

    def __init__(self, groups: Sequence[Group], weight_decay: float, seed: int = 0) -> None:
        self._groups, self._weight_decay, self._seed = list(groups), weight_decay, seed
        numbered = enumerate(p for group in groups for p in group.parameters)
        self._number = {parameter: number for number, parameter in numbered}
        self._moments: dict[nn.Parameter, dict[str, Tensor]] = {}
        self._steps: dict[nn.Parameter, int] = {}

    @torch.no_grad()
    def step(self, gradients: Mapping[nn.Parameter, Tensor], share: float) -> None:
        """Take a step with `share` of each group's learning rate."""
        for group in self._groups:
            for parameter in group.parameters:
                if parameter in gradients:
                    self._step(parameter, gradients[parameter], share * group.lr)

    def clear(self) -> None:
        """It keeps no gradients."""

    def _step(self, parameter: nn.Parameter, gradient: Tensor, lr: float) -> None:
        if parameter not in self._moments:
            names = ("exp_avg", "exp_avg_sq")
            self._moments[parameter] = {n: torch.zeros_like(parameter, dtype=torch.bfloat16) for n in names}
        steps = self._steps[parameter] = self._steps.get(parameter, 0) + 1
        name = f"{self._seed} {self._number[parameter]} {steps}"
        key = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big", signed=True)
        weights, first, second = (_flat(t) for t in (parameter, *self._moments[parameter].values()))
        gradient = (gradient.to_local() if isinstance(gradient, DTensor) else gradient).reshape(-1)
        size, offset = CHUNK.get(weights.device.type, CHUNK["cuda"]), _first_element(parameter)
        (beta1, beta2), decay = BETAS, 1 - lr * self._weight_decay
        for start in range(0, len(weights), size):
            rows = slice(start, start + size)
            g = gradient[rows].float()
            w = weights[rows].float().mul_(decay)
            m = first[rows].float().lerp_(g, 1 - beta1)
            v = second[rows].float().mul_(beta2).addcmul_(g, g, value=1 - beta2)
            scale = v.sqrt().div_(math.sqrt(1 - beta2**steps)).add_(EPS)
            w.addcdiv_(m, scale, value=-lr / (1 - beta1**steps))
            bits = random_bits(key, offset + start, len(w), w.device)
            first[rows], second[rows] = rounded(m, bits, 0), rounded(v, bits, 1)
            if weights.dtype == torch.bfloat16:  # otherwise `w` is the weights themselves
                weights[rows] = rounded(w, bits, 2)

    def state_of(self, parameter: nn.Parameter) -> tuple[dict[str, Tensor], float | None]:
        """(moments, number of steps). The bits of the next rounding follow from the number."""
        return dict(self._moments.get(parameter, {})), self._steps.get(parameter)

    def restore(self, parameter: nn.Parameter, tensors: Mapping[str, Tensor], steps: float | None) -> None:
        """Restore what `state_of` returned."""
        self._moments.pop(parameter, None)
        self._steps.pop(parameter, None)
        if steps is not None:
            self._steps[parameter], self._moments[parameter] = int(steps), _moments(tensors, parameter)


def make_adamw(states: OptimizerStates, groups: Sequence[Group], weight_decay: float, seed: int) -> AdamW:
    """AdamW that keeps its moments, and copies of weights if it needs them, in this type."""
    if states == "bfloat16":
        return Bfloat16AdamW(groups, weight_decay, seed)
    return Float32AdamW(groups, weight_decay)


def _moments(tensors: Mapping[str, Tensor], like: Tensor) -> dict[str, Tensor]:
    """Copies, which a step writes into, on the device and with the shards of `like`."""
    return {name: part(tensors[name].to(like.device), like).clone() for name in ("exp_avg", "exp_avg_sq")}


def _flat(tensor: Tensor) -> Tensor:
    """The elements that this process holds of a tensor, as a view."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor.detach()).view(-1)


def _first_element(tensor: Tensor) -> int:
    """Place of the first element that this process holds, in the whole tensor. Shards are rows."""
    if not isinstance(tensor, DTensor) or not tensor.ndim:
        return 0
    _, at = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return at[0] * math.prod(tensor.shape[1:])
