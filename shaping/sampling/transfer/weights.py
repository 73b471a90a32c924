"""Weights on their way to an engine: checksums shared by learner and engines, and adapter directories."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from shaping.sampling.engine import EngineError


def digest(tensor: Tensor) -> str:
    """SHA-256 of a tensor's numbers. The two zeros of floating point count as equal."""
    plain = tensor.detach().cpu()
    if plain.is_floating_point():
        plain = plain + 0.0
    return hashlib.sha256(plain.contiguous().view(-1).view(torch.uint8).numpy().data).hexdigest()


def digests(state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, str]:
    """Digest of each tensor by name. Floating-point tensors are first rounded to `dtype`, the type that is served."""
    return {
        name: digest(tensor.to(dtype) if dtype is not None and tensor.is_floating_point() else tensor)
        for name, tensor in state.items()
    }


def combined(parts: Mapping[str, str]) -> str:
    """One checksum of named digests, independent of their order."""
    return hashlib.sha256("\n".join(f"{name}:{parts[name]}" for name in sorted(parts)).encode()).hexdigest()


def checksum(state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> str:
    """SHA-256 over the names and numbers of a state dict, rounded to `dtype` if given."""
    return combined(digests(state, dtype))


def adapter_settings(directory: Path) -> dict[str, Any]:
    """Read the settings of a LoRA adapter in PEFT's layout.

    Raises: EngineError if `directory` holds no such adapter.
    """
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        if not (directory / name).is_file():
            raise EngineError(f"{directory} is no LoRA adapter in PEFT's layout: it has no {name}")
    try:
        settings = json.loads((directory / "adapter_config.json").read_text(encoding="utf-8"))
        return dict(settings, r=int(settings["r"]))
    except (ValueError, KeyError, TypeError) as error:
        raise EngineError(
            f"{directory}/adapter_config.json cannot be read: {error!r}; save the adapter again"
        ) from error
