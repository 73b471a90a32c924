"""Activation edits as forward hooks, all of which are removed afterwards."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from shaping.hooks import ActivationEdit
from shaping.models.trunk import trunk


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The list of transformer layers of a model.

    Raises: ValueError if the model has no such list.
    """
    base = trunk(model)
    base = getattr(base, "language_model", base)  # of a model that reads images, too
    layers = next((found for name in ("layers", "h") if (found := getattr(base, name, None)) is not None), None)
    if layers is None:  # other names, and lists within a decoder: the one with as many members as there are layers
        count = getattr(model.config.get_text_config(), "num_hidden_layers", None)
        lists = (module for module in base.modules() if isinstance(module, nn.ModuleList))
        layers = next((found for found in lists if len(found) == count), None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{type(model).__name__} has no list of decoder layers to hook activation edits on")
    return layers


def edit(hidden: Tensor, spec: ActivationEdit) -> Tensor:
    """Apply one edit to hidden states [..., hidden].

    Raises: ValueError if the direction does not have shape [hidden].
    """
    if spec.direction.shape != hidden.shape[-1:]:
        raise ValueError(f"edit direction of shape {spec.direction.shape} on hidden states of {hidden.shape[-1]}")
    direction, unit = _on_device(spec, hidden.dtype, hidden.device)
    if spec.kind == "add":
        return hidden + spec.scale * direction
    along = hidden @ unit
    if spec.kind == "cap":
        along = (along - spec.scale).clamp_min(0.0)
    return hidden - along.unsqueeze(-1) * unit


_Directions = dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]]
_DIRECTIONS: dict[int, _Directions] = {}
"""By the id of an edit, as long as it lives: recorded CUDA graphs read them where they are."""


def _on_device(spec: ActivationEdit, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """An edit's direction [hidden] and the unit direction, copied to the device once and not in every pass."""
    if (of_spec := _DIRECTIONS.get(id(spec))) is None:
        of_spec = _DIRECTIONS[id(spec)] = {}
        weakref.finalize(spec, _DIRECTIONS.pop, id(spec), None)
    if (made := of_spec.get((dtype, device))) is None:
        with torch.inference_mode(False):  # sampling asks first, and the learner keeps them for its backward pass
            direction = torch.tensor(spec.direction, dtype=dtype, device=device)
            made = of_spec[dtype, device] = direction, direction / direction.norm()
    return made


@contextmanager
def applied(model: PreTrainedModel, edits: Sequence[ActivationEdit]) -> Iterator[None]:
    """Apply edits inside the block. All hooks are removed after it, also on an exception.

    Raises: ValueError if an edit names a layer that the model does not have.
    """
    with ExitStack() as stack:
        if edits:
            layers = decoder_layers(model)
            for spec in edits:
                if not 0 <= spec.layer < len(layers):
                    raise ValueError(f"activation edit on layer {spec.layer}, but the model has {len(layers)} layers")
                stack.enter_context(_hooked(layers[spec.layer], spec))
        yield


@contextmanager
def _hooked(layer: nn.Module, spec: ActivationEdit) -> Iterator[None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (edit(output[0], spec), *output[1:])
        return edit(output, spec)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
