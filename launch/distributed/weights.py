"""Weights sent from the learner to samplers in other processes: which ones, and packed for Ray."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from launch.config.study import RunConfig
from shaping.learning.config import LoRAConfig
from shaping.learning.policy import Policy
from shaping.sockets import LOOPBACK

Form = Literal["modules", "lora", "merged", "adapter"]
"""Which weights a sampler gets:

- `modules`: all tensors under the model's module names, with the adapters as separate tensors;
- `lora`: only the tensors of the adapters;
- `merged`: the base model with the adapters added to its weights;
- `adapter`: the kept adapter under PEFT's names.
"""
WeightSource = Callable[[Form], Mapping[str, Tensor]]
"""Returns the learner's current weights."""


def form_of(run: RunConfig) -> Form:
    """The form of the weights that the run's sampler gets.

    A transformers sampler has the learner's adapters, so nothing is rounded by merging.
    """
    lora = run.rollout.sync == "lora"
    if run.rollout.engine == "transformers":
        return "lora" if lora else "modules"
    return "adapter" if lora else "merged"


def weights_of(policy: Policy, form: Form) -> Mapping[str, Tensor]:
    """A policy's weights, unsharded. Ranks that share it must call this together; rank 0 gets the weights."""
    if form == "adapter":
        return policy.adapters.tensors("kept")
    state: Mapping[str, Tensor] = policy.model.state_dict()
    if policy.ranks.strategy == "fsdp":
        state = policy.ranks.stored(state)
    if form == "merged":
        with policy.phase("sampling"):
            return policy.adapters.merged(state)
    return state if form == "modules" else {name: tensor for name, tensor in state.items() if ".lora_" in name}


class Packed(NamedTuple):
    """A tensor in a form that Ray transports without copies."""

    data: NDArray[np.uint8]
    """Its bytes."""
    dtype: str
    """Name of its type in torch."""
    shape: tuple[int, ...]
    """Its shape."""


def pack_tensors(state: Mapping[str, Tensor]) -> dict[str, Packed]:
    """Pack tensors for Ray: views of those in CPU memory, and one copy of tied ones."""
    seen: dict[tuple[int, tuple[int, ...], torch.dtype], Packed] = {}
    packed: dict[str, Packed] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype)
        if key not in seen:
            contiguous = tensor.detach().cpu().contiguous()
            data = contiguous.reshape(-1).view(torch.uint8).numpy()
            seen[key] = Packed(data, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        packed[name] = seen[key]
    return packed


def unpack_tensors(packed: Mapping[str, Packed]) -> dict[str, Tensor]:
    """The tensors. They share read-only memory with Ray's object store."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            name: torch.from_numpy(item.data).view(getattr(torch, item.dtype)).reshape(item.shape)
            for name, item in packed.items()
        }


def own_address() -> str:
    """The address of this process for workers; the loopback address if all nodes of Ray are on this machine."""
    import ray

    address = str(ray.util.get_node_ip_address())
    others = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - {address}
    return address if others else LOOPBACK


def write_adapter(tensors: Mapping[str, Tensor], lora: LoRAConfig, directory: Path) -> None:
    """Write the kept adapter in PEFT's layout."""
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "bias": "none",
        "r": lora.rank,
        "lora_alpha": lora.alpha,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
    }
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(copies, directory / "adapter_model.safetensors", metadata={"format": "pt"})
