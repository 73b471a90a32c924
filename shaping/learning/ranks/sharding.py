"""Models sharded over ranks (FSDP2), and conversion between whole tensors and their shards."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel

from shaping.models.edits import decoder_layers

T = TypeVar("T")
Run = Callable[[Callable[[], T]], T]


def run_here(compute: Callable[[], T]) -> T:
    """Run a computation with a model that is not sharded."""
    return compute()


def shard(
    model: PreTrainedModel, mesh: DeviceMesh, keep: Collection[nn.Parameter], dtype: torch.dtype | None = None
) -> Run[Any]:
    """Shard rank 0's weights over the ranks of `mesh`, except those to `keep` whole, which all must have already.

    The weights may still lie in their files, as `from_pretrained` leaves them on the CPU: layer by layer they are read,
    given their `dtype`, moved to the device, taken from rank 0 and sharded, so that no rank ever holds more than its
    shards and one layer. A layer is gathered when it computes. Gradients are summed over ranks, not averaged, and
    accumulate in each rank's shard.

    Returns: a function that must run every computation with the model. The computation returns a tensor or a tuple of
    tensors; inside it the embeddings and the output layer are gathered, too. It replaces the model's forward, which
    would compute all logits.
    """
    policy = MixedPrecisionPolicy(reduce_dtype=torch.float32)
    cuda = mesh.device_type == "cuda"
    device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device(mesh.device_type)
    held = set(keep)
    for module in (*decoder_layers(model), model):
        _read(model, module, held, device, dtype)
        fully_shard(module, mesh=mesh, mp_policy=policy, ignored_params=held)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo neither averages nor scales
    model.run_sharded = MethodType(lambda _model, compute: compute(), model)
    register_fsdp_forward_method(model, "run_sharded")
    return model.run_sharded


@torch.no_grad()
def _read(
    model: nn.Module, module: nn.Module, held: Collection[nn.Parameter], device: torch.device, dtype: torch.dtype | None
) -> None:
    """Replace the parameters of a module that are neither sharded nor `held` by copies of rank 0's on the device."""
    own = {p for p in module.parameters() if not isinstance(p, DTensor) and p not in held}
    copies: dict[nn.Parameter, nn.Parameter] = {}
    for parameter in (p for p in model.parameters() if p in own):  # in an order that is the same on all ranks
        kind = dtype if dtype is not None and parameter.is_floating_point() else parameter.dtype
        copy = parameter.detach().to(device, kind, copy=True)
        dist.broadcast(copy, 0)
        copies[parameter] = nn.Parameter(copy, parameter.requires_grad)
    for part in model.modules():
        for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter in copies:  # tied ones stay one
                part.register_parameter(name, copies[parameter])


def release(model: nn.Module) -> None:
    """Drop gathered weights. A forward pass without a backward pass leaves some, and they are stale after a step."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def whole(tensor: Tensor) -> Tensor:
    """The whole of a sharded tensor; all ranks must call it together. Other tensors are returned unchanged."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """This rank's shard of a whole tensor, sharded as `like` is; all ranks must hold the same `tensor`.

    It is returned unchanged if `like` is not sharded, or if it is sharded already.
    """
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def parts(state: Mapping[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Convert a state dict of whole tensors into one that this rank's module can load."""
    shards = module.state_dict()
    return {name: part(tensor, shards[name]) if name in shards else tensor for name, tensor in state.items()}
