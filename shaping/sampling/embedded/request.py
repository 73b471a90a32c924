"""One completion that the embedded engine is sampling."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Sequence
from dataclasses import dataclass, field

import numpy as np

from shaping.sampling.embedded.states import Kept, Reader
from shaping.sampling.engine import Completion, SamplingParams


@dataclass(slots=True)
class Request:
    """One completion under way."""

    session: int
    player: str
    tokens: Sequence[int]
    params: SamplingParams
    future: asyncio.Future[Completion]
    uniforms: np.ndarray
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    masked_tokens: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    version: list[int] = field(default_factory=list)
    states: Kept = field(default_factory=list)

    def has_ended(self, ends: Container[int]) -> bool:
        """Has a token that ends turns been sampled, or as many as are allowed?"""
        return len(self.sampled) >= self.params.max_tokens or (bool(self.sampled) and self.sampled[-1] in ends)

    def completion(self, ends: Container[int], reader: Reader) -> Completion:
        """What has been sampled, with the states that `reader` has kept."""
        return Completion(
            tokens=np.array(self.sampled, np.int32),
            logprobs=np.array(self.logprobs, np.float32),
            policy_versions=np.array(self.version, np.int32),
            finished=bool(self.sampled) and self.sampled[-1] in ends,
            masked_tokens=tuple(self.masked_tokens),
            states=reader.completed(self),
        )
