"""Code inside vLLM's worker processes: new weights, activation edits, checksums of the served weights.

vLLM imports this module in every worker, because it holds the worker extension. The import registers the weight
transfer. The engine calls methods by name with plain data, so that nothing is unpickled.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor, nn
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from shaping.hooks import ActivationEdit
from shaping.models.edits import edit
from shaping.sampling.transfer.broadcast import Receiver
from shaping.sampling.transfer.weights import digest, digests
from shaping.sampling.vllm.streams import Stream

TRANSFER = "shaping"
"""Name of the transfer engine below in vLLM's registry."""


@dataclass
class BroadcastInfo(WeightTransferInitInfo):
    """A broadcast to ask for: the arguments of `shaping.sampling.transfer.broadcast.Receiver.start`."""

    host: str
    """Address of the sender."""
    port: int
    """Port of the sender's store."""
    session: str
    """Name of the pair of sender and receiver."""
    number: int
    """Number of this transfer within the session."""
    timeout: float
    """Seconds for each step."""
    wanted: list[Any]
    """(name, type, shape) of the tensors to send, in this order."""


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """The source of new weights."""

    path: str = ""
    """A safetensors file that this process can read, with all weights under their names in the checkpoint. Empty: the
    weights that have arrived by broadcast."""


class ShapingTransferEngine(WeightTransferEngine[BroadcastInfo, UpdateInfo]):
    """Takes weights from a safetensors file, or by broadcast from a learner's process, on CPU and GPU.

    Loading uses vLLM's layerwise reload, because CPU layers repack their weights and drop the originals. A broadcast
    arrives before that, in a thread, while the engine samples.
    """

    init_info_cls = BroadcastInfo
    update_info_cls = UpdateInfo
    supports_draft_weight_update = False

    def init_transfer_engine(self, init_info: BroadcastInfo) -> None:
        self.receiver.start(**vars(init_info))

    @cached_property
    def receiver(self) -> Receiver:
        return Receiver(self.device)

    def start_weight_update(self) -> None:
        # vLLM logs layers without their own weights as failures; the sender has checked that no weight is missing.
        logging.getLogger(initialize_layerwise_reload.__module__).setLevel(logging.ERROR)
        initialize_layerwise_reload(self.model)

    def receive_weights(self, update_info: UpdateInfo) -> None:
        if not update_info.path:
            self.model.load_weights(self.receiver.take().items())
            return
        with safe_open(update_info.path, framework="pt", device="cpu") as file:
            self.model.load_weights((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118

    def finish_weight_update(self) -> None:
        finalize_layerwise_reload(self.model, self.model_config)
        _repack_shared(self.model)

    def shutdown(self) -> None:
        self.receiver.close()


if TRANSFER not in WeightTransferEngineFactory._registry:
    WeightTransferEngineFactory.register_engine(TRANSFER, ShapingTransferEngine)


def _repack_shared(model: nn.Module) -> None:
    """Repack shared weights: on the CPU each layer keeps a packed copy of its weight, and the reload skips sharers."""
    owners = Counter(id(module.weight) for module in model.modules() if isinstance(_weight(module), Tensor))
    for module in model.modules():
        if hasattr(module, "cpu_linear") and owners[id(_weight(module))] > 1:
            repack: Any = module.quant_method
            repack.process_weights_after_loading(module)


def _weight(module: nn.Module) -> Any:
    return getattr(module, "weight", None)


class ShapingWorker:
    """Worker extension, mixed into vLLM's worker class."""

    model_runner: Any
    """The worker's model runner."""
    weight_transfer_engine: Any
    """The worker's `ShapingTransferEngine`."""

    def shaping_broadcast_outcome(self) -> str | None:
        """Outcome of the broadcast: None during the transfer, then the reason of its failure, empty after success."""
        outcome: str | None = self.weight_transfer_engine.receiver.outcome
        return outcome

    def shaping_arrived_digests(self) -> dict[str, str]:
        """Digests of the weights that have arrived by broadcast and are not loaded yet."""
        return digests(self.weight_transfer_engine.receiver.arrived)

    def shaping_set_edits(self, edits: Sequence[Mapping[str, Any]]) -> None:
        """Replace all activation edits, each made by `plain_edit`."""
        for handle in getattr(self, "_shaping_hooks", ()):
            handle.remove()
        count = self.model_runner.model_config.hf_text_config.num_hidden_layers
        layers = _decoder_layers(self.model_runner.get_model(), count)
        self._shaping_hooks = []
        for plain in edits:
            spec = ActivationEdit(
                plain["layer"], plain["kind"], np.frombuffer(plain["direction"], np.float32).copy(), plain["scale"]
            )
            self._shaping_hooks.append(layers[spec.layer].register_forward_hook(_hook(spec, plain["stream"])))

    def shaping_served_digests(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
        """Digests of the weights in use, by checkpoint name. Weights with an unknown layout are left out."""
        model = self.model_runner.get_model()
        weights = {name: served_weight(model, name, shapes) for name in shapes}
        return {name: digest(tensor) for name, tensor in weights.items() if tensor is not None}


def _decoder_layers(model: nn.Module, count: int) -> nn.ModuleList:
    """The list of the model's `count` layers, whatever its name."""
    lists = (module for module in model.modules() if isinstance(module, nn.ModuleList))
    layers = next((found for found in lists if len(found) == count), None)
    if layers is None:
        raise ValueError(f"vLLM's {type(model).__name__} has no list of decoder layers to hook activation edits on")
    return layers


def _hook(spec: ActivationEdit, stream: Stream) -> Any:
    def edited(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return edit(output, spec)
        hidden, residual, *others = output
        if stream == "first":
            return (edit(hidden, spec), residual, *others)
        return (edit(hidden + residual, spec), torch.zeros_like(residual), *others)

    return edited


def served_weight(model: nn.Module, name: str, shapes: Mapping[str, Sequence[int]]) -> Tensor | None:
    """The weight that the forward pass uses for checkpoint tensor `name`; None if its layout is unknown.

    A layer may stack several checkpoint tensors by rows (e.g. query, key and value), may pad rows, and may hold only a
    packed form on the CPU. The output of a packed layer for the identity matrix is its weight, bit for bit.

    Args:
        model: vLLM's model.
        name: name of the tensor in the checkpoint.
        shapes: shapes of all checkpoint tensors.
    """
    module_name, _, kind = name.rpartition(".")
    parent, _, leaf = module_name.rpartition(".")
    first_row = 0
    for fused, parts in getattr(model, "packed_modules_mapping", {}).items():
        if leaf in parts and len(parts) > 1:
            siblings = [f"{parent}.{part}.{kind}" for part in parts]
            if not all(sibling in shapes for sibling in siblings):
                return None
            first_row = sum(shapes[sibling][0] for sibling in siblings[: parts.index(leaf)])
            module_name = f"{parent}.{fused}"
            break
    try:
        module = model.get_submodule(module_name)
    except AttributeError:
        return None
    module = getattr(module, "base_layer", module)  # LoRA wraps layers
    whole = _whole(module, kind, int(shapes[name][-1]))
    if whole is None or whole.shape[0] < first_row + shapes[name][0]:
        return None
    rows = whole[first_row : first_row + shapes[name][0]]
    return rows if list(rows.shape) == list(shapes[name]) else None


@torch.inference_mode()
def _whole(module: nn.Module, kind: str, columns: int) -> Tensor | None:
    """A layer's whole unpacked parameter; None if it has none."""
    tensor = getattr(module, kind, None)
    linear = getattr(module, "cpu_linear", None)
    if not isinstance(tensor, Tensor):
        return None
    if kind != "weight" or linear is None:
        return tensor if tensor.numel() else None
    identity = torch.eye(columns, dtype=tensor.dtype, device=tensor.device)
    chunks = [linear(identity[a:b].contiguous(), tensor, None) for a, b in pairwise([*range(0, columns, 256), columns])]
    return torch.cat(chunks).T
