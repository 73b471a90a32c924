"""The engine protocol: tokens in, tokens out, one session per episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from envs.core import TextEnv
    from shaping.hooks import ActivationEdit


class EngineError(RuntimeError):
    """An engine cannot start, cannot take what it was given, or has failed."""


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
    end-of-turn token was sampled (else `max_tokens` was hit). `masked_tokens` as in `envs.episode.Turn`.
    """

    tokens: NDArray[np.int32]
    logprobs: NDArray[np.float32]
    policy_versions: NDArray[np.int32]
    finished: bool
    masked_tokens: tuple[tuple[int, tuple[int, ...]], ...] = ()


class Engine(Protocol):
    """What `play()` needs. `complete` is called with the whole sequence so far; engines cache the prefix."""

    context_length: int

    def open(self, session: Session) -> None: ...

    def close(self, session: Session) -> None: ...

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion: ...

    async def load_weights(self, state: dict[str, Any], version: int) -> str:
        """Take new weights; tokens sampled later carry `version`, in completions under way too.

        Returns the checksum of what is now served (`shaping.sampling.weights`), empty where it was not computed.
        """

    async def load_adapter(self, directory: Path | None, version: int) -> str:
        """Sample with a LoRA adapter on the base weights (None: without) from now on, stamped with `version`.

        Completions under way may keep what they started with, and its stamp. `directory` is in PEFT's layout and may
        change or vanish afterwards. Returns the adapter's checksum.
        """

    def set_edits(self, edits: Sequence[ActivationEdit]) -> None:
        """Activation edits for everything sampled from now on."""

    def shutdown(self) -> None:
        """Free what the engine holds. It cannot be used afterwards."""
