"""The numbers of a model that its memory follows from, read off its config: no weights are loaded."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from shaping.models.context import longest_context
from shaping.models.lora.adapter_targets import adaptable, expert_parameters, linear_layers


@dataclass(frozen=True)
class ModelSizes:
    """Counts of numbers, not of bytes."""

    parameters: int
    """All weights; tied ones once."""
    head: int
    """Weights of the output layer."""
    vocabulary: int
    """Logits of one token."""
    layers: int
    """Decoder layers."""
    cached: int
    """Keys and values of one token in all layers, as if every layer were one of attention over the whole context."""
    activated: int
    """What the backward pass of one layer needs of one token; see `sizes_of`."""
    hidden: int
    """Hidden state of one token."""
    context: int
    """Longest sequence in tokens, as far as the config says."""
    adaptable: int
    """Sum of the inputs and outputs of the linear layers that adapters adapt: times a rank, an adapter's weights."""


def sizes_of(directory: Path, targets: Sequence[str] = ()) -> ModelSizes:
    """The sizes of the model in a directory with a config.json. `targets`: what adapters adapt; none: all they can.

    Raises: ValueError if the config says too little.

    Of a token, one layer keeps about 10 hidden states (inputs of norms and projections, residuals), queries, keys and
    values twice, and three times the width of the feed-forward part, of the experts that a token reaches.
    """
    try:
        written = (directory / "config.json").read_text(encoding="utf-8")
        return _sizes(str(directory.resolve()), written, tuple(targets))
    except (AttributeError, LookupError, ImportError, RuntimeError, OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"the config in {directory} does not say how large the model is: {str(error)[:200]}"
        ) from error


@functools.lru_cache(maxsize=16)
def _sizes(directory: str, written: str, targets: tuple[str, ...]) -> ModelSizes:
    """`written`: the config itself, by which the result is kept."""
    config = AutoConfig.from_pretrained(directory, local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    text = config.get_text_config()
    keys = cached_numbers(config) // int(text.num_hidden_layers)
    queries = _head_width(text) * int(text.num_attention_heads) if keys else 0
    head = model.get_output_embeddings().weight
    attention = 2 * (queries + keys)
    return ModelSizes(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        head=head.numel(),
        vocabulary=head.shape[0],
        layers=int(text.num_hidden_layers),
        cached=cached_numbers(config),
        activated=10 * int(text.hidden_size) + attention + 3 * _reached(text),
        hidden=int(text.hidden_size),
        context=_context(config),
        adaptable=_adaptable(model, targets),
    )


def cached_numbers(config: Any) -> int:
    """Keys and values of one token, as if every layer were one of attention over the whole context."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", None)
    if heads is None:  # it has no attention, and no cache that grows
        return 0
    return 2 * int(text.num_hidden_layers) * int(heads) * _head_width(text)


def _head_width(text: Any) -> int:
    return int(getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)


def _context(config: Any) -> int:
    try:
        return longest_context(config)
    except ValueError:  # the sampler says it when it starts
        return sys.maxsize


def _reached(config: Any) -> int:
    """Width of the feed-forward part that a token passes through: of all experts that it is sent to, if any."""
    experts = int(getattr(config, "num_experts_per_tok", None) or 0)
    each = getattr(config, "moe_intermediate_size", None)
    whole = int(getattr(config, "intermediate_size", None) or 4 * config.hidden_size)
    return experts * int(each or whole) if experts else whole


def _adaptable(model: PreTrainedModel, targets: Sequence[str]) -> int:
    names = targets or adaptable(model)
    found = [module.get_parameter("weight") for path, module in linear_layers(model) if path.split(".")[-1] in names]
    experts = [p for name, tensors in expert_parameters(model).items() if name in names for p in tensors]
    return sum(sum(weight.shape) for weight in found) + sum(len(p) * sum(p.shape[1:]) for p in experts)
