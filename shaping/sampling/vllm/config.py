"""Settings of the vLLM engine, and checks that need no start of it. Imports no vLLM."""

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
from shaping.models.context import longest_context
from shaping.sampling.engine import EngineError
from shaping.sampling.vllm.streams import STREAMS, plain_edit

GIB = 1 << 30
CPU_CACHE_VARIABLE = "VLLM_CPU_KVCACHE_SPACE"
TEMPLATE = "shaping_chat_template"
"""Key of the chat template's arguments in vLLM's `additional_config`, which all its processes have."""


class VLLMConfig(BaseModel):
    """Settings of one engine. The defaults fit a small model on a CPU, or on a GPU shared with a learner."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="type of the served weights; auto: the checkpoint's, and bfloat16 for float32"
    )
    max_model_len: int | None = Field(
        None, ge=16, le=100_000_000, description="context in tokens; the model's own by default"
    )
    max_num_seqs: int = Field(64, ge=1, le=100_000, description="completions decoded at once; others wait")
    max_num_batched_tokens: int | None = Field(
        None, ge=16, le=100_000_000, description="tokens of one forward pass; vLLM's default"
    )
    gpu_memory_utilization: float = Field(0.45, gt=0, le=1, description="share of a GPU for weights and cache")
    kv_cache_gib: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="size of the cache in GiB; by default the rest of that share, 1 GiB on a CPU",
    )
    tensor_parallel_size: int = Field(1, ge=1, le=1000, description="GPUs that share one model")
    enforce_eager: bool | None = Field(
        None, description="do not compile the model; by default on a CPU only; activation edits need it"
    )
    enable_lora: bool = Field(False, description="serve LoRA adapters")
    max_loras: int = Field(2, ge=1, le=10_000, description="adapters in one batch, at least max_staleness + 2")
    max_lora_rank: Literal[1, 8, 16, 32, 64, 128, 256, 320, 512] = Field(16, description="highest rank of adapters")
    max_staleness: int = Field(0, ge=0, le=1000, description="versions that may be in use besides the newest")
    max_logprobs: int = Field(
        20, ge=0, le=4096, description="log-probs per token that a completion may ask for; a run sets it from top_k"
    )
    update_timeout: float = Field(120.0, gt=0, le=604_800, description="seconds for new weights, adapters or edits")
    verify: Literal["first", "always"] = Field("first", description="weight updates to check by checksum")

    @model_validator(mode="after")
    def _enough_adapters(self) -> Self:
        if self.enable_lora and self.max_loras < self.max_staleness + 2:
            raise ValueError(
                f"max_loras is {self.max_loras}, but with max_staleness={self.max_staleness} up to "
                f"{self.max_staleness + 2} adapters are in use while a new one arrives: set max_loras to that at least"
            )
        return self

    def cache_bytes(self, *, cpu: bool) -> int | None:
        """Bytes for keys and values. None: the rest of the share `gpu_memory_utilization`; on a CPU 1 GiB."""
        if cpu and (gibibytes := os.environ.get(CPU_CACHE_VARIABLE)):
            return int(gibibytes) * GIB  # vLLM itself prefers this variable to all settings
        if self.kv_cache_gib is None:
            return GIB if cpu else None
        return int(self.kv_cache_gib * GIB)


@dataclass(frozen=True)
class ModelFiles:
    """A model directory in the Hugging Face layout.

    Raises: EngineError if config.json or the weights are missing.
    """

    path: Path
    """The directory."""

    def __post_init__(self) -> None:
        if not (self.path / "config.json").is_file():
            raise EngineError(f"{self.path} is not a model directory: it has no config.json")
        if not any(self.path.glob("*.safetensors")):
            raise EngineError(f"{self.path} has no *.safetensors weights; other formats are not loaded")

    @cached_property
    def config(self) -> Any:
        """transformers' text config. Raises: EngineError if transformers does not know the model."""
        try:
            return AutoConfig.from_pretrained(self.path, local_files_only=True).get_text_config()
        except (ValueError, OSError, KeyError) as error:
            raise EngineError(f"{self.path}/config.json names no model that transformers knows: {error}") from error

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every weight in the checkpoint, by name. Raises: EngineError if a file is damaged."""
        shapes: dict[str, tuple[int, ...]] = {}
        for file in sorted(self.path.glob("*.safetensors")):
            try:
                with safe_open(file, framework="pt") as tensors:
                    shapes |= {n: tuple(tensors.get_slice(n).get_shape()) for n in tensors.keys()}  # noqa: SIM118
            except Exception as error:
                raise EngineError(f"{file} is damaged: {error}; copy the model again") from error
        return shapes

    def dtype(self, config: VLLMConfig) -> torch.dtype:
        """Type in which vLLM will serve the weights."""
        name = config.dtype if config.dtype != "auto" else (getattr(self.config, "dtype", None) or "float32")
        dtype = getattr(torch, str(name).removeprefix("torch."))
        # vLLM's rule for `auto`: single-precision weights are served in half precision.
        return torch.bfloat16 if config.dtype == "auto" and dtype == torch.float32 else dtype

    def context_length(self, config: VLLMConfig) -> int:
        """Longest episode in tokens. Raises: EngineError if `max_model_len` is above the model's, or it states none."""
        try:
            limit = longest_context(self.config)
        except ValueError as error:
            if config.max_model_len:  # some know no limit: ALiBi has none
                return config.max_model_len
            raise EngineError(f"{self.path}: {error}") from error
        if config.max_model_len and config.max_model_len > limit:
            raise EngineError(
                f"max_model_len is {config.max_model_len}, but {self.path} has a context of {limit} tokens: lower it"
            )
        return config.max_model_len or limit

    @property
    def head_size(self) -> int:
        """Numbers per attention head. Raises: EngineError if the model has no heads."""
        model = self.config
        if not getattr(model, "num_attention_heads", None):
            raise EngineError(
                f"{self.path}: models of type {model.model_type!r} have no attention, and vLLM is not set up for them "
                "here: sample with rollout.engine=transformers"
            )
        return int(getattr(model, "head_dim", None) or model.hidden_size // model.num_attention_heads)

    def check_memory(self, config: VLLMConfig, *, cpu: bool, free: int | None) -> None:
        """Check that the cache holds one episode of full length, and that weights and cache fit in memory.

        Args:
            config: the engine's settings.
            cpu: whether the engine runs on a CPU.
            free: free memory in bytes; None if unknown.
        Raises: EngineError with the memory that is needed.
        """
        model, item = self.config, self.dtype(config).itemsize
        heads = getattr(model, "num_key_value_heads", None) or model.num_attention_heads
        blocks = math.ceil(self.context_length(config) / 128)  # the block size of vLLM on a CPU, its largest on a GPU
        tokens = blocks * 128 if cpu else self.context_length(config)
        needed = 2 * model.num_hidden_layers * heads * self.head_size * item * tokens // config.tensor_parallel_size
        cache = config.cache_bytes(cpu=cpu)
        if cache is not None and needed > cache:
            limit = f"{CPU_CACHE_VARIABLE} (which vLLM prefers)" if os.environ.get(CPU_CACHE_VARIABLE) else "it"
            raise EngineError(
                f"kv_cache_gib={cache / GIB:.3g} is too little memory for the KV cache: one episode of "
                f"{self.context_length(config)} tokens needs {needed / GIB:.3g} GiB. Raise {limit}, or lower "
                "max_model_len"
            )
        total = sum(math.prod(shape) for shape in self.shapes.values()) * item + (cache or needed)
        if free is not None and total > free:
            raise EngineError(
                f"weights and KV cache need {total / GIB:.3g} GiB, but {free / GIB:.3g} GiB are free: lower "
                "kv_cache_gib or max_model_len, or close other programs"
            )

    def checked_weights(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of `state` to send.

        Raises: KeyError if names differ from the checkpoint's, ValueError if a shape differs.
        """
        names = self.checked_names({name: tuple(tensor.shape) for name, tensor in state.items()})
        return {name: state[name] for name in names}

    def checked_names(self, shapes: Mapping[str, tuple[int, ...]]) -> list[str]:
        """As `checked_weights`, from the shapes of tensors in another process."""
        tied = {"lm_head.weight"} if getattr(self.config, "tie_word_embeddings", False) else set()
        if unknown := sorted(set(shapes) - set(self.shapes) - tied):
            raise KeyError(f"weights for parameters this model does not have: {unknown[:3]}")
        if missing := sorted(set(self.shapes) - set(shapes) - tied):
            raise KeyError(f"a full update needs every weight; missing are {missing[:3]} ({len(missing)} in all)")
        for name, shape in self.shapes.items():
            if name in shapes and shapes[name] != shape:
                raise ValueError(f"weights for {name!r} have shape {shapes[name]}, not {shape}")
        return [name for name in shapes if name in self.shapes]

    def checked_edit(self, spec: ActivationEdit) -> dict[str, Any]:
        """An activation edit as plain data.

        Raises: ValueError if it does not fit the model, EngineError if edits of the family were not seen to be right.
        """
        layers, hidden = int(self.config.num_hidden_layers), int(self.config.hidden_size)
        if not 0 <= spec.layer < layers:
            raise ValueError(f"activation edit on layer {spec.layer}, but the model has {layers} layers")
        if spec.direction.shape != (hidden,):
            raise ValueError(f"edit direction of shape {spec.direction.shape} on hidden states of {hidden}")
        if (stream := STREAMS.get(self.config.model_type)) is None:
            raise EngineError(
                f"activation edits were not seen to be right with vLLM for models of type {self.config.model_type!r} "
                f"(they were for {', '.join(sorted(STREAMS))}): sample with rollout.engine=transformers"
            )
        return plain_edit(spec, stream)
