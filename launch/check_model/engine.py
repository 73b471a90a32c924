"""A model in an engine of this process, with as many episodes at once as its memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel

from launch.errors import ConfigError
from shaping.learning.policy import Policy
from shaping.organisms.gates.record import Settings
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.text.render import Renderer

CACHE_BYTES = 1 << 30
"""Memory for keys and values, about: an episode of `TOKENS` is reckoned with."""
TOKENS = 1024
MOST = 256
"""Most episodes at once. A small model gains nothing from more."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What plays episodes."""

    engine: TransformersEngine
    renderer: Renderer
    slots: int
    """Episodes at once."""


def loaded(model: Path, settings: Settings, device: str) -> Loaded:
    """Load the model, on a CPU in float32, elsewhere in bfloat16. Raises `ConfigError` for a device that is missing."""
    where = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=where)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        raise ConfigError(f"device: {device!r} cannot be used here: {str(error).splitlines()[0]}") from error
    policy = Policy.load(model, dtype=torch.float32 if where == "cpu" else torch.bfloat16, device=where)
    policy.model.eval()
    renderer = Renderer(policy.tokenizer)
    slots = slots_for(policy.model)
    return Loaded(TransformersEngine(policy.model, renderer, slots=slots), renderer, slots)


def slots_for(model: PreTrainedModel) -> int:
    """Episodes at once, by what their keys and values need; on a GPU they may take a quarter of what is free."""
    device = next(model.parameters()).device
    room = max(CACHE_BYTES, torch.cuda.mem_get_info(device)[0] // 4) if device.type == "cuda" else CACHE_BYTES
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * width * next(model.parameters()).element_size()
    return max(4, min(MOST, room // (token * TOKENS)))
