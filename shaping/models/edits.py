"""Activation edits as forward hooks that leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from shaping.hooks import ActivationEdit


def decoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The stack of transformer layers. Raises ValueError where a model has no such list."""
    layers = getattr(model.base_model, "layers", None)
    if layers is None:
        layers = getattr(model.base_model, "h", None)
    if not isinstance(layers, nn.ModuleList):
        raise ValueError(f"{type(model).__name__} has no list of decoder layers to hook activation edits on")
    return layers


def edit(hidden: Tensor, how: ActivationEdit) -> Tensor:
    """Apply one edit to hidden states [..., hidden]."""
    direction = torch.as_tensor(how.direction, dtype=hidden.dtype, device=hidden.device)
    if direction.shape != hidden.shape[-1:]:
        raise ValueError(f"edit direction of shape {tuple(direction.shape)} on hidden states of {hidden.shape[-1]}")
    if how.kind == "add":
        return hidden + how.scale * direction
    unit = direction / direction.norm()
    along = hidden @ unit
    if how.kind == "cap":
        along = (along - how.scale).clamp_min(0.0)
    return hidden - along.unsqueeze(-1) * unit


@contextmanager
def applied(model: PreTrainedModel, edits: Sequence[ActivationEdit]) -> Iterator[None]:
    """Edits are active inside the block; all hooks are gone after it, also on an exception."""
    with ExitStack() as stack:
        if edits:
            layers = decoder_layers(model)
            for how in edits:
                if not 0 <= how.layer < len(layers):
                    raise ValueError(f"activation edit on layer {how.layer}, but the model has {len(layers)} layers")
                stack.enter_context(_hooked(layers[how.layer], how))
        yield


@contextmanager
def _hooked(layer: nn.Module, how: ActivationEdit) -> Iterator[None]:
    def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (edit(output[0], how), *output[1:])
        return edit(output, how)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
