"""The types of a model's weights in its files."""

from __future__ import annotations

from pathlib import Path

import torch

from shaping.models.model_files import float_types

_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
"""Types by their names in safetensors files."""


def stored_dtype(path: Path, wanted: torch.dtype) -> torch.dtype:
    """The type of the weights in their files, if they can stay there until they are sharded: else the `wanted` one."""
    stored = [_TYPES.get(kind) for kind in float_types(path)]
    (kind,) = stored if len(stored) == 1 else (None,)
    return kind if kind is not None and kind.itemsize <= wanted.itemsize else wanted
