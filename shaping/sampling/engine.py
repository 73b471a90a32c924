"""The engine protocol: tokens in, tokens out, one session per episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from envs.core import TextEnv
    from shaping.intervention import ActivationEdit


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How one completion is sampled.

    `seed` makes the completion independent of what else is in the batch. `forbid` lists commands that must be
    impossible to utter (action masks), word by word. `temperature` 0 is greedy.
    """

    max_tokens: int = 32
    temperature: float = 1.0
    seed: int = 0
    forbid: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """One episode as the engine sees it: engines keep its prefix cached from `open` to `close`."""

    id: int
    env: TextEnv


@dataclass(frozen=True, slots=True)
class Completion:
    """`tokens`, `logprobs`, `policy_versions` have shape [sampled tokens], end-of-turn token included.

    Log-probs are those of the distribution that was sampled from (after temperature and masks). `finished`: the
    end-of-turn token was sampled (else `max_tokens` was hit). `forbidden` as in `envs.episode.Turn`.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    policy_versions: NDArray[np.int32]
    finished: bool
    forbidden: tuple[tuple[int, tuple[int, ...]], ...] = ()


class Engine(Protocol):
    """What `play()` needs. `complete` is called with the whole sequence so far; engines cache the prefix."""

    context_length: int

    def open(self, session: Session) -> None: ...

    def close(self, session: Session) -> None: ...

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion: ...

    async def load_weights(self, state: dict[str, Any], version: int) -> str:
        """Take new weights; later completions carry `version`. Returns a checksum of what is now served."""

    def set_edits(self, edits: Sequence[ActivationEdit]) -> None:
        """Activation edits for everything sampled from now on."""
