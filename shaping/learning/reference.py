"""The reference policy of the KL: the policy as it was when training began, adapters included."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from shaping.hooks import ActivationEdit
from shaping.learning.policy import Policy
from shaping.learning.ranks.parallel import Ranks
from shaping.learning.samples.packing import Batch


class Reference:
    """The present policy, frozen, with the adapters of the training phase.

    Where the base is trained it is a copy, or `start`: the same policy, loaded apart. Where only adapters are trained,
    the policy itself computes it: frozen adapters stay in place, trained ones that were warm-started get their first
    weights back for the pass, and new ones, which add nothing yet, are left out.
    """

    def __init__(self, policy: Policy, start: Policy | None = None) -> None:
        self._policy = policy
        self._copy: Policy | None = None
        self._names = policy.adapters.names(phase="training")
        self._start: dict[str, tuple[nn.Parameter, Tensor]] = {}
        if start is not None:
            start.model.requires_grad_(False).eval()
            self._copy = start
            return
        if not policy.adapters.names("kept"):
            with policy.phase("training"):
                model = copy.deepcopy(policy.model).requires_grad_(False).eval()
            self._copy = Policy(model, policy.tokenizer, temperature=policy.temperature)
            return
        for name in self._names:
            if policy.adapters.specs[name].role == "frozen":
                continue
            weights = _weights(policy.model, name)
            if any(bool(weight.any()) for key, weight in weights.items() if ".lora_B." in key):
                self._start |= {key: (weight, weight.detach().clone()) for key, weight in weights.items()}
            else:
                self._names = tuple(other for other in self._names if other != name)

    def distribute(self, ranks: Ranks) -> None:
        """Become one of several ranks. Call it before `Policy.distribute`, because a copy needs whole weights."""
        if self._copy is not None:
            self._copy.distribute(ranks)

    @torch.no_grad()
    def logprobs(self, batch: Batch, edits: Sequence[ActivationEdit] = ()) -> Tensor:
        """Log-probs [m] of a batch's loss tokens."""
        if self._copy is not None:
            return self._copy.logprobs(batch, edits)[0]
        with self._policy.adapters.using(self._policy.of_player(self._names)), self._as_started():
            return self._policy.logprobs(batch, edits)[0]

    def state_dict(self) -> dict[str, Tensor]:
        """What the policy does not hold itself: the copy's weights, or the first weights of warm-started adapters."""
        if self._copy is not None:
            return self._copy.state_dict()
        return self._policy.ranks.stored({key: start for key, (_, start) in self._start.items()})

    @torch.no_grad()
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        if self._copy is not None:
            self._copy.load_state_dict(state)
        for key, (_, start) in self._start.items():
            start.copy_(state[key])

    @contextmanager
    def _as_started(self) -> Iterator[None]:
        """Give warm-started adapters their first weights inside the block.

        The tensors are exchanged, not overwritten: the policy's own pass, whose gradient is still to be computed, needs
        its weights as they are.
        """
        now = [(weight, weight.data) for weight, _ in self._start.values()]
        try:
            for weight, start in self._start.values():
                weight.data = start
            yield
        finally:
            for weight, present in now:
                weight.data = present


def _weights(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """The matrices of an adapter by their place in the model."""
    ends = tuple(f".lora_{matrix}.{adapter}.weight" for matrix in "AB")
    return {name: parameter for name, parameter in model.named_parameters() if name.endswith(ends)}
