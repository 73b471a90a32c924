"""A model in an engine of this process, with as many episodes at once as its memory allows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from transformers import PreTrainedModel

from launch.run.device import local_device
from shaping.learning.policy import Policy
from shaping.organisms.gates.record import Settings
from shaping.sampling.embedded.transformers_engine import TransformersEngine
from shaping.sampling.text.render import Renderer

CACHE_BYTES = 1 << 30
"""Memory for keys and values, about: an episode of `TOKENS` is reckoned with."""
TOKENS = 1024
LARGE = 200 << 20
"""Bytes of weights from which a model is one that runs train in bfloat16: on a CPU, too, that is two to three times
faster. Organisms have two megabytes."""
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
    """Load the model in the type of `dtype_of`. Raises `ConfigError` for a device that is missing."""
    where = local_device(device, "--device")
    policy = Policy.load(model, dtype=getattr(torch, dtype_of(model, where)), device=where)
    policy.model.eval()
    renderer = Renderer(policy.tokenizer)
    slots = slots_for(policy.model)
    return Loaded(TransformersEngine(policy.model, renderer, slots=slots), renderer, slots)


def dtype_of(model: Path, where: str) -> Literal["float32", "bfloat16"]:
    """Type of the weights while gates are measured: float32 for small models on a CPU, bfloat16 otherwise."""
    weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
    return "float32" if where == "cpu" and weights < LARGE else "bfloat16"


def slots_for(model: PreTrainedModel) -> int:
    """Episodes at once, by what their keys and values need; on a GPU they may take a quarter of what is free."""
    device = next(model.parameters()).device
    room = max(CACHE_BYTES, torch.cuda.mem_get_info(device)[0] // 4) if device.type == "cuda" else CACHE_BYTES
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    token = 2 * config.num_hidden_layers * heads * width * next(model.parameters()).element_size()
    return max(4, min(MOST, room // (token * TOKENS)))
