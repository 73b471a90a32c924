"""What runs inside vLLM's worker processes: new weights, activation edits, checksums of what is served.

vLLM imports this module in every worker, as it holds the worker extension; importing it registers the weight transfer.
Methods are called by name with plain data, so that nothing is ever unpickled.
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
from shaping.sampling.broadcast import Receiver
from shaping.sampling.weights import digest, digests

TRANSFER = "shaping"
"""Name of the weight transfer below."""


@dataclass
class OfferInfo(WeightTransferInitInfo):
    """Weights to ask for by broadcast; as in `shaping.sampling.broadcast.Receiver.start`."""

    host: str
    port: int
    session: str
    number: int
    timeout: float
    wanted: list[Any]


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    path: str = ""
    """A safetensors file that this process can read, with all weights under their names in the checkpoint. None: what
    has arrived by broadcast."""


class WeightTransfer(WeightTransferEngine[OfferInfo, UpdateInfo]):
    """Takes weights from a safetensors file, or by broadcast from a learner's process, on CPU and GPU alike.

    Loading goes layer by layer through vLLM's reload, as CPU layers repack their weights and drop the originals. A
    broadcast arrives before that, in a thread, while the engine samples.
    """

    init_info_cls = OfferInfo
    update_info_cls = UpdateInfo
    supports_draft_weight_update = False

    def init_transfer_engine(self, init_info: OfferInfo) -> None:
        self.receiver.start(**vars(init_info))

    @cached_property
    def receiver(self) -> Receiver:
        return Receiver(self.device)

    def start_weight_update(self) -> None:
        # layers without weights of their own are reported as failures; the sender has checked that none is missing
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
    WeightTransferEngineFactory.register_engine(TRANSFER, WeightTransfer)


def _repack_shared(model: nn.Module) -> None:
    """Layers that share another's weight keep their own packed copy of it on the CPU, which the reload forgets."""
    owners = Counter(id(module.weight) for module in model.modules() if isinstance(_weight(module), Tensor))
    for module in model.modules():
        if hasattr(module, "cpu_linear") and owners[id(_weight(module))] > 1:
            repack: Any = module.quant_method
            repack.process_weights_after_loading(module)


def _weight(module: nn.Module) -> Any:
    return getattr(module, "weight", None)


class ShapingWorker:
    """Mixed into vLLM's worker; `model_runner` is the worker's."""

    model_runner: Any
    weight_transfer_engine: Any

    def shaping_told(self) -> str | None:
        """Of the broadcast that was asked for: None while it lasts, then what went wrong, if anything."""
        told: str | None = self.weight_transfer_engine.receiver.told
        return told

    def shaping_arrived_digests(self) -> dict[str, str]:
        """Digests of what has arrived by broadcast and is not loaded yet."""
        return digests(self.weight_transfer_engine.receiver.arrived)

    def shaping_set_edits(self, edits: Sequence[Mapping[str, Any]]) -> None:
        """Replace all activation edits by these: layer, kind, scale and the direction as float32 bytes."""
        for handle in getattr(self, "_shaping_hooks", ()):
            handle.remove()
        layers = _decoder_layers(self.model_runner.get_model())
        self._shaping_hooks = []
        for plain in edits:
            how = ActivationEdit(
                plain["layer"], plain["kind"], np.frombuffer(plain["direction"], np.float32).copy(), plain["scale"]
            )
            self._shaping_hooks.append(layers[how.layer].register_forward_hook(_hook(how)))

    def shaping_served_digests(self, shapes: Mapping[str, Sequence[int]]) -> dict[str, str]:
        """Digests of the weights in use, by checkpoint name; weights whose layout is not understood are left out."""
        model = self.model_runner.get_model()
        found = {name: served_weight(model, name, shapes) for name in shapes}
        return {name: digest(tensor) for name, tensor in found.items() if tensor is not None}


def _decoder_layers(model: nn.Module) -> nn.ModuleList:
    inner = getattr(model, "model", getattr(model, "transformer", model))
    layers = getattr(inner, "layers", getattr(inner, "h", None))
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"vLLM's {type(model).__name__} has no list of decoder layers to hook activation edits on")
    return layers


def _hook(how: ActivationEdit) -> Any:
    def edited(_module: nn.Module, _args: Any, output: Any) -> Any:
        if not isinstance(output, tuple):
            return edit(output, how)
        # vLLM hands on the sum that ends a layer as two addends, which the next norm adds up
        hidden, residual, *others = output
        return (edit(hidden + residual, how), torch.zeros_like(residual), *others)

    return edited


def served_weight(model: nn.Module, name: str, shapes: Mapping[str, Sequence[int]]) -> Tensor | None:
    """The weight that the forward pass uses for checkpoint tensor `name`, or None where that cannot be told.

    Layers may hold several checkpoint tensors stacked by rows (query, key and value, say), padded rows, and on the CPU
    only a packed form: what such a layer makes of the identity matrix is its weight, bit for bit.
    """
    module_name, _, kind = name.rpartition(".")
    parent, _, leaf = module_name.rpartition(".")
    first = 0
    for fused, parts in getattr(model, "packed_modules_mapping", {}).items():
        if leaf in parts and len(parts) > 1:
            siblings = [f"{parent}.{part}.{kind}" for part in parts]
            if not all(sibling in shapes for sibling in siblings):
                return None
            first = sum(shapes[sibling][0] for sibling in siblings[: parts.index(leaf)])
            module_name = f"{parent}.{fused}"
            break
    try:
        module = model.get_submodule(module_name)
    except AttributeError:
        return None
    module = getattr(module, "base_layer", module)  # LoRA wraps layers
    whole = _whole(module, kind, int(shapes[name][-1]))
    if whole is None or whole.shape[0] < first + shapes[name][0]:
        return None
    rows = whole[first : first + shapes[name][0]]
    return rows if list(rows.shape) == list(shapes[name]) else None


@torch.inference_mode()
def _whole(module: nn.Module, kind: str, columns: int) -> Tensor | None:
    tensor = getattr(module, kind, None)
    linear = getattr(module, "cpu_linear", None)
    if not isinstance(tensor, Tensor):
        return None
    if kind != "weight" or linear is None:
        return tensor if tensor.numel() else None
    identity = torch.eye(columns, dtype=tensor.dtype, device=tensor.device)
    chunks = [linear(identity[a:b].contiguous(), tensor, None) for a, b in pairwise([*range(0, columns, 256), columns])]
    return torch.cat(chunks).T
