"""LoRA adapters that a vLLM engine serves, each version under a name, an id and a path of its own. Imports no vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from shaping.sampling.engine import EngineError
from shaping.sampling.transfer.weights import adapter_settings, checksum
from shaping.sampling.vllm.config import VLLMConfig


@dataclass(frozen=True, slots=True)
class ServedAdapter:
    """One version of a LoRA adapter. Its name, id and path are never used again: they are keys of vLLM's caches."""

    request: Any
    """vLLM's LoRARequest."""
    directory: Path
    """The adapter's files."""
    version: int
    """Version of the policy."""
    digest: str
    """Checksum of its weights."""


def digest(directory: Path) -> str:
    """Checksum of the weights of an adapter in PEFT's layout."""
    return checksum(load_file(directory / "adapter_model.safetensors"))


def check_servable(config: VLLMConfig, directories: Sequence[Path | None]) -> None:
    """Raises `EngineError` if an engine with these settings cannot serve one of the adapters. None is no adapter."""
    for directory in filter(None, directories):
        if not config.enable_lora:
            raise EngineError("this engine serves no adapters: set enable_lora=True")
        if (rank := adapter_settings(directory)["r"]) > config.max_lora_rank:
            raise EngineError(f"the adapter in {directory} has rank {rank}: raise max_lora_rank to it")
