"""AdamW over parameter groups, with gates on parameter gradients."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from shaping.learning.config import OptimizerStates
from shaping.learning.ranks.parallel import SINGLE, Ranks, global_norm
from shaping.learning.steps.adamw import Group, make_adamw
from shaping.models.lora.subspace import Projection

Groups = Mapping[str, Sequence[nn.Parameter]]


class GatedOptimizer:
    """Accumulates the gradients of gated micro-batches, and steps.

    A gate multiplies the gradient of one micro-batch on a group's *parameters*. That is exact, because no other
    gradient depends on a weight gradient. Cloud et al. (arXiv:2410.04332) scale activation gradients instead, which
    also changes the gradients of all earlier layers.

    Gradients are summed in float32, those of bfloat16 parameters, too.

    Args:
        groups: name -> trained parameters.
        lr: learning rate of the groups that `lrs` does not name.
        weight_decay: weight decay of all groups.
        lrs: name -> learning rate of a group.
        ranks: gradients are summed over these ranks before a step.
        states: type of what AdamW keeps from step to step.
        seed: seed of the rounding of bfloat16 states.
        confined: parameter -> projection of its gradient before a step, and of itself afterwards.
    """

    def __init__(
        self,
        groups: Groups,
        *,
        lr: float,
        weight_decay: float = 0.0,
        lrs: Mapping[str, float] | None = None,
        ranks: Ranks = SINGLE,
        states: OptimizerStates = "float32",
        seed: int = 0,
        confined: Mapping[nn.Parameter, Projection] | None = None,
    ) -> None:
        self._ranks = ranks
        self._confined = dict(confined or {})
        self.groups = {name: list(parameters) for name, parameters in groups.items() if len(parameters)}
        self.parameters = [p for parameters in self.groups.values() for p in parameters]
        self._sums: dict[nn.Parameter, Tensor] = {}
        rates = lrs or {}
        stepped = [Group(parameters, rates.get(name, lr)) for name, parameters in self.groups.items()]
        self._adam = make_adamw(states, stepped, weight_decay, seed)
        self._lr_share = 1.0

    @contextmanager
    def gated(self, gates: Mapping[str, float], *, freeze: bool = True) -> Iterator[None]:
        """Apply gates to the gradients of the forward and backward pass inside the block.

        Args:
            gates: gate of each group; other groups have gate one.
            freeze: compute no gradient for groups with gate zero. Sharded parameters cannot be frozen between steps:
                pass False, and their gradient is computed and dropped.
        """
        closed = [p for name, gate in gates.items() if gate == 0 for p in self.groups.get(name, ())] if freeze else []
        # Hooks are removed after the block: they must not act on another optimiser of the same parameters.
        hooks = [
            parameter.register_post_accumulate_grad_hook(partial(self._collect, gates.get(name, 1.0)))
            for name, parameters in self.groups.items()
            for parameter in parameters
        ]
        for parameter in closed:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for parameter in closed:
                parameter.requires_grad_(True)
            for hook in hooks:
                hook.remove()

    def gradients(self) -> dict[nn.Parameter, Tensor]:
        """Gradient sums since the last `clear`; parameters without any gradient are missing."""
        return dict(self._sums)

    def clear(self) -> None:
        """Drop all accumulated gradients."""
        self._sums.clear()
        self._adam.clear()
        for parameter in self.parameters:
            parameter.grad = None

    def norm(self, max_norm: float, apart: Mapping[str, float] | None = None) -> float:
        """Sum the gradients over ranks, and scale them to a total norm of at most `max_norm`.

        Args:
            max_norm: largest norm of all groups that `apart` does not name.
            apart: group -> largest norm of its gradients alone, which do not count for the others.
        Returns: the norm of the others before scaling, the same on all ranks; nan if any is not finite, and then
            nothing is scaled.
        """
        self._ranks.reduce(self._sums, self.parameters)
        for parameter, projection in self._confined.items():
            if parameter in self._sums:
                self._sums[parameter] = projection(self._sums[parameter])
        alone = {name: limit for name, limit in (apart or {}).items() if name in self.groups}
        parts = [([name for name in self.groups if name not in alone], max_norm)]
        parts += [([name], limit) for name, limit in alone.items()]
        norms = [self._norm_of(names) for names, _ in parts]
        if not all(map(torch.isfinite, norms)):
            return float("nan")
        for (names, limit), norm in zip(parts, norms, strict=True):
            share = torch.clamp(limit / (norm + 1e-6), max=1.0)
            for name in names:  # one by one: in a group, either all parameters are sharded or none
                if gradients := [self._sums[p] for p in self.groups[name] if p in self._sums]:
                    torch._foreach_mul_(gradients, share.to(gradients[0].device))
        return float(norms[0])

    def _norm_of(self, names: Sequence[str]) -> Tensor:
        members = {parameter for name in names for parameter in self.groups[name]}
        return global_norm([gradient for parameter, gradient in self._sums.items() if parameter in members])

    def set_lr_share(self, share: float) -> None:
        """Step with this share of every group's learning rate from now on."""
        self._lr_share = share

    def step(self) -> None:
        """Take one AdamW step with the gradients from `norm`. They stay in place for inspection until `clear`."""
        self._adam.step(self._sums, self._lr_share)
        with torch.no_grad():
            for parameter, projection in self._confined.items():
                if parameter in self._sums:  # one that was not stepped keeps its bits
                    parameter.copy_(projection(parameter))

    def state_of(self, parameter: nn.Parameter) -> tuple[dict[str, Tensor], float | None]:
        """Copies of (what is kept for a parameter, its number of steps), for `restore`."""
        kept, steps = self._adam.state_of(parameter)
        return {name: tensor.detach().clone() for name, tensor in kept.items()}, steps

    def restore(self, parameter: nn.Parameter, state: tuple[Mapping[str, Tensor], float | None]) -> None:
        """Restore what `state_of` returned."""
        self._adam.restore(parameter, *state)

    def state_dict(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """(moments and master weights, step counts), by the parameter's index; tensors are on rank 0 only."""
        tensors: dict[str, Tensor] = {}
        steps: dict[str, float] = {}
        for number, parameter in enumerate(self.parameters):
            kept, taken = self._adam.state_of(parameter)
            tensors |= {f"{number}.{name}": tensor for name, tensor in kept.items()}
            if taken is not None:
                steps[str(number)] = taken
        return self._ranks.stored(tensors), {"steps": steps}

    def load_state_dict(self, tensors: Mapping[str, Tensor], values: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.clear()
        for number, parameter in enumerate(self.parameters):
            own = {n.partition(".")[2]: t for n, t in tensors.items() if n.partition(".")[0] == str(number)}
            self._adam.restore(parameter, own, values["steps"].get(str(number)))

    def _collect(self, gate: float, parameter: nn.Parameter) -> None:
        """Move a parameter's new gradient to the sum, times its gate."""
        gradient, parameter.grad = parameter.grad, None
        if gradient is None or gate == 0:
            return
        if parameter in self._sums:
            self._sums[parameter].add_(gradient, alpha=gate)
            return
        first = gradient.float()
        self._sums[parameter] = first if gate == 1 else first * gate
