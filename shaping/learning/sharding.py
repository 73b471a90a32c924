"""Models whose weights are spread over ranks (FSDP2), and whole tensors from and to their parts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MethodType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from shaping.models.edits import decoder_layers

T = TypeVar("T")
Run = Callable[[Callable[[], T]], T]


def run_here(compute: Callable[[], T]) -> T:
    return compute()


def shard(model: PreTrainedModel, mesh: DeviceMesh, whole: Collection[nn.Parameter]) -> Run[Any]:
    """Spread the weights over the ranks of `mesh`, all but `whole` ones; a layer is gathered when it computes.

    Returns what must run every computation with the model, which returns tensors or a tuple of them: inside, the
    embeddings and the output layer are gathered too. It takes the place of the model's forward, which would make all
    logits. Gradients are summed over ranks, not averaged, and accumulate in each rank's part.
    """
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    for module in (*decoder_layers(model), model):
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=set(whole))
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo neither averages nor scales
    model.run_sharded = MethodType(lambda _model, compute: compute(), model)
    register_fsdp_forward_method(model, "run_sharded")
    return model.run_sharded


def release(model: nn.Module) -> None:
    """Drop gathered weights: a forward pass without a backward pass leaves some, which a step makes out of date."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, on every rank; every rank must ask. Others as they are."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor, of: Tensor) -> Tensor:
    """This rank's part of a whole tensor, spread as `of` is; every rank holds the same `tensor`. Else as it is."""
    if not isinstance(of, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor.to(of.device), of.device_mesh, of.placements, src_data_rank=None)


def parts(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """A state dict of whole tensors, as this rank's module can load it."""
    own = module.state_dict()
    return {name: part(tensor, own[name]) if name in own else tensor for name, tensor in state.items()}
