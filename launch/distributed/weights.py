"""Weights sent from the learner to samplers in other processes: which ones, and packed for Ray."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor
from transformers.core_model_loading import revert_weight_conversion

from launch.config.study import RunConfig
from launch.errors import UserError
from launch.run.evaluation.eval_plan import EvalPolicy, active_adapters
from launch.run.seats.players import adapters_on
from shaping.hooks import AdapterSpec
from shaping.learning.policy import MOST_LOST, Policy
from shaping.models.lora.adapters import Merge
from shaping.models.lora.concatenated import joint
from shaping.sampling.transfer.weights import checksum as checksum_of
from shaping.sampling.vllm.config import ModelFiles
from shaping.sockets import LOOPBACK

Form = Literal["modules", "lora", "merged", "adapter"]
"""Which weights a sampler gets:

- `modules`: all tensors under the model's module names, with the adapters as separate tensors;
- `lora`: only the tensors of the adapters;
- `merged`: the base model with the adapters added to its weights, under the names of its files;
- `adapter`: one adapter under PEFT's names, which does what all adapters of sampling do together; with `seats` one of
  every player, as `<player>/<name>`.
"""


class Sent(NamedTuple):
    """Weights to send to samplers."""

    tensors: Mapping[str, Tensor] | None
    """In the memory of this process; None: they are in Ray's object store alone."""
    reference: Any = None
    """Packed (`pack_tensors`), in the object store; None: not yet."""


class WeightSource(Protocol):
    """Where samplers get the learner's current weights from."""

    def send(self, form: Form, policy: EvalPolicy) -> Sent:
        """The weights; adapters that are merged or sent as one are those that are on in `policy`."""

    def checksum(self, form: Form, policy: EvalPolicy, dtype: torch.dtype | None) -> str:
        """What a sampler that has received them must have: `shaping.sampling.transfer.weights.checksum`."""


def form_of(run: RunConfig) -> Form:
    """The form of the weights that the run's sampler gets.

    A transformers sampler has the learner's adapters, so nothing is rounded by merging.
    """
    lora = run.rollout.sync == "lora"
    if run.rollout.engine == "transformers":
        return "lora" if lora else "modules"
    return "adapter" if lora else "merged"


class PolicyWeights:
    """The weights of a policy in this process, for the samplers of a run.

    `log` is told once how much of the adapters' update a merge loses, if it is more than `MOST_LOST`.
    """

    def __init__(self, run: RunConfig, policy: Policy, model: Path, log: Callable[[str], None]) -> None:
        self._policy, self._log = policy, log
        self._run = run
        self._served = served_type(run, model) if form_of(run) == "merged" else None
        self._told = False

    def send(self, form: Form, policy: EvalPolicy = "sampling") -> Sent:
        """As `WeightSource.send`. Ranks that share the policy must call it together; rank 0 gets the weights."""
        if form == "adapter" and self._run.seats is not None:
            return Sent(
                weights_of_players(self._policy, adapters_on(self._run, self._policy.adapters.specs.values(), policy))
            )
        if form != "merged":
            return Sent(weights_of(self._policy, form, policy))
        merge = merged_weights(self._policy, self._served, policy)
        if merge.lost > MOST_LOST and not self._told:
            self._told = True
            self._log(
                f"rollout.sync=full merges the adapters into {str(self._served).removeprefix('torch.')} weights for "
                f"vLLM, which loses {merge.lost:.1%} of what they have learned so far: samples come from another "
                "policy than the trained one. rollout.sync=lora sends the adapters as they are"
            )
        return Sent(merge.weights)

    def checksum(self, form: Form, policy: EvalPolicy, dtype: torch.dtype | None) -> str:
        """As `WeightSource.checksum`. Ranks that share the policy must call it together; rank 0 knows the answer."""
        return checksum_of(self.send("modules" if form == "lora" else form, policy).tensors or {}, dtype)


def served_type(run: RunConfig, model: Path) -> torch.dtype:
    """The type in which the vLLM engines of a run serve weights."""
    return ModelFiles(model).dtype(run.rollout.vllm_config(dtype=run.learner.dtype))


def weights_of(policy: Policy, form: Form, of: EvalPolicy = "sampling") -> Mapping[str, Tensor]:
    """A policy's weights, unsharded. Ranks that share it must call this together; rank 0 gets the weights.

    `of`: whose adapters are merged, or sent as one.
    """
    if form == "adapter":
        names = _active(policy, of)
        return policy.adapters.combined(names).tensors if names else {}
    if form == "merged":
        return merged_weights(policy, of=of).weights
    state = _unsharded(policy)
    return state if form == "modules" else {name: tensor for name, tensor in state.items() if ".lora_" in name}


def weights_of_players(policy: Policy, on: Mapping[str, Sequence[str]]) -> dict[str, Tensor]:
    """`<player>/<name>` -> tensor of the one adapter that does what all adapters of a player do together."""
    return {
        f"{player}/{key}": tensor
        for player, names in on.items()
        if names
        for key, tensor in policy.adapters.combined(names).tensors.items()
    }


def tensors_of_player(tensors: Mapping[str, Tensor], player: str) -> dict[str, Tensor]:
    """Those of one player, under PEFT's names."""
    prefix = f"{player}/"
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def merged_weights(policy: Policy, served: torch.dtype | None = None, of: EvalPolicy = "sampling") -> Merge:
    """The base with the adapters that are on in `of` added, in the type in which it is served: it is rounded once.

    Raises `UserError` if the model's weights cannot be written under the names of its files.
    """
    state = _unsharded(policy)
    if policy.ranks.rank > 0:
        return Merge({}, 0.0)
    if not policy.adapters:
        return Merge(named_as_in_files(policy, state), 0.0)
    with policy.adapters.using(_active(policy, of)):
        merge = policy.adapters.merge(state, served)
    return merge._replace(weights=named_as_in_files(policy, merge.weights))


def _active(policy: Policy, of: EvalPolicy) -> list[str]:
    return [spec.name for spec in active_adapters(policy.adapters.specs.values(), of)]


def _unsharded(policy: Policy) -> Mapping[str, Tensor]:
    state = policy.model.state_dict()
    return policy.ranks.stored(state) if policy.ranks.strategy == "fsdp" else state


def named_as_in_files(policy: Policy, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under the names of the model's files: transformers keeps experts as one tensor, files often one each."""
    try:
        return dict(revert_weight_conversion(policy.model, dict(state)))
    except Exception as error:  # conversions of transformers raise exceptions of many types
        raise UserError(
            f"rollout.sync=full: the weights of {type(policy.model).__name__} cannot be written under the names of its "
            f"files, which vLLM reads ({type(error).__name__}: {error}): train with learner.lora, or sample with "
            "rollout.engine=transformers"
        ) from error


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


def sent_adapter(adapters: Sequence[AdapterSpec]) -> tuple[int, float]:
    """(rank, alpha) of the adapter that does what these do together."""
    return joint([(spec.rank, spec.alpha) for spec in adapters])


def largest_rank(run: RunConfig, adapters: Sequence[AdapterSpec]) -> int:
    """Rank of the largest adapter that is sent for any policy that plays, and for any player of it."""
    sent = [active_adapters(adapters, policy) for policy in get_args(EvalPolicy)]
    if players := [names for each in get_args(EvalPolicy) for names in adapters_on(run, adapters, each).values()]:
        sent = [[spec for spec in adapters if spec.name in names] for names in players]
    return max(sent_adapter(own)[0] for own in sent)


def write_adapter(tensors: Mapping[str, Tensor], adapters: Sequence[AdapterSpec], directory: Path) -> None:
    """Write the tensors that do what `adapters` do together in PEFT's layout."""
    rank, alpha = sent_adapter(adapters)
    settings: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "bias": "none",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": sorted({name.split(".")[-3] for name in tensors}),
    }
    directory.mkdir(parents=True)
    (directory / "adapter_config.json").write_text(json.dumps(settings), encoding="utf-8")
    copies = {name: tensor.clone() for name, tensor in tensors.items()}
    save_file(copies, directory / "adapter_model.safetensors", metadata={"format": "pt"})
