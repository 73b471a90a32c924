"""Settings of the vLLM engine, and what can be known to fail before it starts. Imports no vLLM."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig

from shaping.hooks import ActivationEdit
from shaping.sampling.engine import EngineError

GIB = 1 << 30
CPU_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"


class VLLMConfig(BaseModel):
    """How one engine is started. The defaults fit a small model on one GPU that is shared with a learner, or a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = Field(None, ge=16, description="context in tokens; the model's own by default")
    max_num_seqs: int = Field(64, ge=1, description="completions that are decoded at once; more wait")
    max_num_batched_tokens: int | None = Field(None, ge=16, description="tokens of one forward pass")
    gpu_memory_utilization: float = Field(0.45, gt=0, le=1, description="share of a GPU for weights and cache")
    kv_cache_gib: float | None = Field(None, gt=0, description="size of the cache; by default what the share leaves")
    tensor_parallel_size: int = Field(1, ge=1)
    enforce_eager: bool | None = Field(None, description="by default on a CPU only; activation edits need it")
    enable_lora: bool = False
    max_loras: int = Field(2, ge=1, description="adapters in one batch, at least max_staleness + 2")
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = 16
    max_staleness: int = Field(0, ge=0, description="versions that may be in use besides the newest")
    update_timeout: float = Field(120.0, gt=0, description="seconds for new weights, adapters or edits")
    verify: Literal["first", "always"] = Field("first", description="which weight updates are checked by checksum")

    @model_validator(mode="after")
    def _enough_adapters(self) -> Self:
        if self.enable_lora and self.max_loras < self.max_staleness + 2:
            raise ValueError(
                f"max_loras is {self.max_loras}, but with max_staleness={self.max_staleness} up to "
                f"{self.max_staleness + 2} adapters are in use while a new one arrives: set max_loras to that at least"
            )
        return self

    def cache_bytes(self, *, cpu: bool) -> int | None:
        """Bytes for keys and values, None where vLLM takes what `gpu_memory_utilization` leaves. 1 GiB on a CPU."""
        if cpu and (wanted := os.environ.get(CPU_CACHE_VARIABLE)):
            return int(wanted) * GIB  # vLLM reads it too, and would not listen to anything else
        if self.kv_cache_gib is None:
            return GIB if cpu else None
        return int(self.kv_cache_gib * GIB)


@dataclass(frozen=True)
class ModelFiles:
    """A model directory in the Hugging Face layout. Raises EngineError naming what is missing."""

    path: Path

    def __post_init__(self) -> None:
        if not (self.path / "config.json").is_file():
            raise EngineError(f"{self.path} is not a model directory: it has no config.json")
        if not any(self.path.glob("*.safetensors")):
            raise EngineError(f"{self.path} has no *.safetensors weights; other formats are not loaded")

    @cached_property
    def config(self) -> Any:
        try:
            return AutoConfig.from_pretrained(self.path, local_files_only=True).get_text_config()
        except (ValueError, OSError, KeyError) as error:
            raise EngineError(f"{self.path}/config.json names no model that transformers knows: {error}") from error

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of every weight in the checkpoint, by name."""
        found: dict[str, tuple[int, ...]] = {}
        for file in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt") as tensors:
                    found |= {n: tuple(tensors.get_slice(n).get_shape()) for n in tensors.keys()}  # noqa: SIM118
            except Exception as error:
                raise EngineError(f"{file} is damaged: {error}; copy the model again") from error
        return found

    def dtype(self, config: VLLMConfig) -> torch.dtype:
        wanted = config.dtype if config.dtype != "auto" else (getattr(self.config, "dtype", None) or "float32")
        dtype = getattr(torch, str(wanted).removeprefix("torch."))
        # vLLM's rule for `auto`: weights in single precision are served in half
        return torch.bfloat16 if config.dtype == "auto" and dtype == torch.float32 else dtype

    def context_length(self, config: VLLMConfig) -> int:
        own = int(self.config.max_position_embeddings)
        if config.max_model_len and config.max_model_len > own:
            raise EngineError(f"max_model_len is {config.max_model_len}, but {self.path} has a context of {own} tokens")
        return config.max_model_len or own

    @property
    def head_size(self) -> int:
        own = self.config
        return int(getattr(own, "head_dim", None) or own.hidden_size // own.num_attention_heads)

    def check_memory(self, config: VLLMConfig, *, cpu: bool, free: int | None) -> None:
        """One episode of full length must fit in the cache, weights and cache in the `free` bytes, if known."""
        own, item = self.config, self.dtype(config).itemsize
        heads = getattr(own, "num_key_value_heads", None) or own.num_attention_heads
        blocks = math.ceil(self.context_length(config) / 128)  # vLLM's blocks on a CPU, its largest elsewhere
        tokens = blocks * 128 if cpu else self.context_length(config)
        needed = 2 * own.num_hidden_layers * heads * self.head_size * item * tokens // config.tensor_parallel_size
        cache = config.cache_bytes(cpu=cpu)
        if cache is not None and needed > cache:
            place = f"{CPU_CACHE_VARIABLE} (which rules on a CPU)" if os.environ.get(CPU_CACHE_VARIABLE) else "it"
            raise EngineError(
                f"kv_cache_gib={cache / GIB:.3g} is too little memory for the KV cache: one episode of "
                f"{self.context_length(config)} tokens needs {needed / GIB:.3g} GiB. Raise {place}, or lower "
                "max_model_len"
            )
        total = sum(math.prod(shape) for shape in self.shapes.values()) * item + (cache or needed)
        if free is not None and total > free:
            raise EngineError(
                f"weights and KV cache need {total / GIB:.3g} GiB, but {free / GIB:.3g} GiB are free: lower "
                "kv_cache_gib or max_model_len, or close other programs"
            )

    def checked_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of `state` to send. Raises KeyError and ValueError unless they are this model's, all of them."""
        names = self.checked_names({name: tuple(tensor.shape) for name, tensor in state.items()})
        return {name: state[name] for name in names}

    def checked_names(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """As `checked_weights`, for tensors of these shapes that are elsewhere."""
        tied = {"lm_head.weight"} if getattr(self.config, "tie_word_embeddings", False) else set()
        if unknown := sorted(set(shapes) - set(self.shapes) - tied):
            raise KeyError(f"weights for parameters this model does not have: {unknown[:3]}")
        if missing := sorted(set(self.shapes) - set(shapes) - tied):
            raise KeyError(f"a full update needs every weight; missing are {missing[:3]} ({len(missing)} in all)")
        for name, shape in self.shapes.items():
            if name in shapes and shapes[name] != shape:
                raise ValueError(f"weights for {name!r} have shape {shapes[name]}, not {shape}")
        return [name for name in shapes if name in self.shapes]

    def checked_edit(self, how: ActivationEdit) -> dict[str, Any]:
        """An activation edit as plain data. Raises ValueError where it does not fit the model."""
        layers, hidden = int(self.config.num_hidden_layers), int(self.config.hidden_size)
        if not 0 <= how.layer < layers:
            raise ValueError(f"activation edit on layer {how.layer}, but the model has {layers} layers")
        if how.direction.shape != (hidden,):
            raise ValueError(f"edit direction of shape {how.direction.shape} on hidden states of {hidden}")
        direction = how.direction.astype("float32").tobytes()
        return {"layer": int(how.layer), "kind": how.kind, "scale": float(how.scale), "direction": direction}
