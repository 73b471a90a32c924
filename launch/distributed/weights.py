"""Weights on their way from the learner to samplers in other processes."""

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

Form = Literal["modules", "lora", "merged", "adapter"]
"""`modules`: every tensor of the model, adapters apart, under the names of its modules; `lora`: those of adapters
alone. `merged`: the plain model that computes what base and adapters do. `adapter`: the kept one in PEFT's names."""
Source = Callable[[Form], Mapping[str, Tensor]]
"""The learner's weights as they are now."""


def form_of(run: RunConfig) -> Form:
    """What the run's sampler is sent. One of transformers has the learner's adapters, and rounds nothing by merging."""
    lora = run.rollout.sync == "lora"
    if run.rollout.engine == "transformers":
        return "lora" if lora else "modules"
    return "adapter" if lora else "merged"


def weights_of(policy: Policy, form: Form) -> Mapping[str, Tensor]:
    """A policy's weights. All ranks that share it must ask together, and rank 0 is given them."""
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
    """A tensor as Ray carries it without copies: bytes, the type's name, the shape."""

    data: NDArray[np.uint8]
    dtype: str
    shape: tuple[int, ...]


def pack_tensors(state: Mapping[str, Tensor]) -> dict[str, Packed]:
    """Views where the tensors are in CPU memory. Tied ones are carried once."""
    seen: dict[tuple[int, tuple[int, ...], torch.dtype], Packed] = {}
    packed: dict[str, Packed] = {}
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.dtype)
        if key not in seen:
            plain = tensor.detach().cpu().contiguous()
            data = plain.reshape(-1).view(torch.uint8).numpy()
            seen[key] = Packed(data, str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
        packed[name] = seen[key]
    return packed


def unpack_tensors(packed: Mapping[str, Packed]) -> dict[str, Tensor]:
    """The tensors, to be read only: they are the memory that Ray holds."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return {
            name: torch.from_numpy(item.data).view(getattr(torch, item.dtype)).reshape(item.shape)
            for name, item in packed.items()
        }


def own_address() -> str:
    """Where workers find this process: the loopback address if all of Ray's nodes are on this machine."""
    import ray

    own = str(ray.util.get_node_ip_address())
    others = {node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]} - {own}
    return own if others else "127.0.0.1"


def write_adapter(tensors: Mapping[str, Tensor], lora: LoRAConfig, directory: Path) -> None:
    """The kept adapter in PEFT's layout."""
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
    plain = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(plain, directory / "adapter_model.safetensors", metadata={"format": "pt"})
