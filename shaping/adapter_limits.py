"""Where an adapter may write, and how large it may grow (`shaping.hooks.AdapterSpec`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Subspace:
    """Where an adapter may write: per layer into the span of directions (`inside`), or only outside of it.

    `path`: a safetensors file with a tensor [k, hidden] or [hidden] per layer, whose name ends in the layer's number.
    `random`: seed of random directions in their place, as many per layer as the file has; without a file `rank`.
    """

    inside: bool
    path: str | None = None
    random: int | None = None
    rank: int = 4


@dataclass(frozen=True, slots=True)
class NormAlarm:
    """What to do once an adapter's norm is above a limit after an update (`shaping.learning.steps.adapter_norms`)."""

    limit: float
    action: Literal["record", "stop", "rewind"] = "record"
