"""Hidden states of chosen layers, from a forward pass that is made anyway."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from transformers import PreTrainedModel

from shaping.models.edits import decoder_layers


def layer_numbers(model: PreTrainedModel, layers: Sequence[int] | Literal["all"], who: str) -> tuple[int, ...]:
    """Layers counted from 0; negative ones count from the end.

    Raises: ValueError if `who` asks for a layer that the model does not have.
    """
    count = len(decoder_layers(model))
    if layers == "all":
        return tuple(range(count))
    for layer in layers:
        if not -count <= layer < count:
            raise ValueError(
                f"{who}: layer {layer}, but {type(model).__name__} has {count} layers: 0 to {count - 1}, or -{count} "
                "to -1 from the end"
            )
    return tuple(layer % count for layer in layers)


@contextmanager
def recorded(model: PreTrainedModel, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """The outputs of layers in the last pass inside the block, as the next layer gets them: after edits.

    Enter it inside of the edits' block, since hooks run in the order in which they were added. Tensors keep their
    gradient, also with activation checkpointing: the backward pass computes what they depend on again, not them.
    """
    found: dict[int, Tensor] = {}
    modules = decoder_layers(model) if layers else ()
    hooks = []
    try:
        for number in sorted(set(layers)):
            hooks.append(modules[number].register_forward_hook(partial(_record, found, number)))
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _record(found: dict[int, Tensor], number: int, _layer: nn.Module, _args: Any, output: Any) -> None:
    found[number] = output[0] if isinstance(output, tuple) else output
