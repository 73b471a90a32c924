"""The engine protocol: an engine continues token sequences, in one session per episode."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from envs.episode import SpanKind
from shaping.sampling.truncation import Truncation

if TYPE_CHECKING:
    from envs.core import TextEnv
    from shaping.hooks import ActivationEdit, Capture


_SPANS = {"motive": int(SpanKind.MOTIVE), "action": int(SpanKind.ACTION)}
"""Positions of captures that are spans; as plain numbers, which numpy compares faster."""


class EngineError(RuntimeError):
    """An engine cannot start, cannot take an argument, or has failed."""


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """Settings of one completion."""

    max_tokens: int = 32
    """Longest completion, end-of-turn token included; 0: see `Engine.complete`."""
    temperature: float = 1.0
    """Divisor of the logits; 0 is greedy."""
    seed: int = 0
    """Seed of the completion, which does not depend on the other requests of a batch."""
    forbid: tuple[str, ...] = ()
    """Commands that must be impossible to sample (action masks), compared word by word."""
    truncation: Truncation = Truncation()
    """Which tokens can be drawn, of those that masks leave."""


@dataclass(frozen=True, slots=True)
class Session:
    """One episode, from the engine's side. Engines keep its prefix cached from `open` to `close`."""

    id: int
    """Unique within the process."""
    env: TextEnv
    """The episode's world, for the actors of the scripted engine."""
    player: str = ""
    """Who samples it, where an engine serves several players (`shaping.sampling.players`)."""


@dataclass(slots=True)
class CompletionStates:
    """The hidden states of one completion that a capture asked for."""

    capture: Capture
    """What was asked for."""
    states: NDArray[np.float32]
    """[sampled tokens, layers, hidden]; of `prompt_end`, one token."""
    unread: bool = False
    """True while the last token has not been read, since nothing is sampled after it: its states are nan until the
    session's next `Engine.complete` fills them in."""

    def mean(self, kinds: Sequence[int]) -> NDArray[np.float32]:
        """Mean over the tokens that were asked for [layers, hidden]; nan if there are none. `kinds`: `SpanKind`s.

        Raises: `EngineError` while the last token has not been read.
        """
        if self.unread:
            raise EngineError(f"capture {self.capture.name!r}: the last token of a completion has not been read")
        wanted = _SPANS.get(self.capture.positions)
        chosen = self.states if wanted is None else self.states[np.asarray(kinds) == wanted]
        if not len(chosen):
            return np.full(self.states.shape[1:], np.nan, np.float32)
        total: NDArray[np.float32] = np.add.reduce(chosen, axis=0)
        return total / np.float32(len(chosen))  # `mean` does the same, and takes several times as long


@dataclass(frozen=True, slots=True)
class Completion:
    """One sampled completion. Arrays have shape [sampled tokens], end-of-turn token included."""

    tokens: NDArray[np.int32]
    """Sampled token ids."""
    logprobs: NDArray[np.float32]
    """Log-probs under the sampling distribution, after temperature and masks."""
    policy_versions: NDArray[np.int32]
    """Version of the weights that sampled each token."""
    finished: bool
    """True if the end-of-turn token was sampled, False if `max_tokens` was reached first."""
    masked_tokens: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """(position, token ids that the mask made impossible there), as in `envs.episode.Turn`; with a truncation
    (position, ~id of all tokens that were possible there)."""
    states: tuple[CompletionStates, ...] = ()
    """The hidden states that the engine was asked for."""


class Engine(Protocol):
    """The methods of an engine that `play()` and the training loop call."""

    context_length: int
    """Longest episode in tokens, completion included."""

    def open(self, session: Session) -> None:
        """Start a session; it must precede the session's first `complete`."""

    def close(self, session: Session) -> None:
        """End a session and free its cached prefix."""

    async def complete(self, session: Session, tokens: Sequence[int], params: SamplingParams) -> Completion:
        """Continue `tokens`, the session's whole sequence so far, up to the end of the turn.

        States of the session's last completion that are unread are there afterwards. With `max_tokens` 0, that is all
        that happens: nothing is sampled. Only engines whose states can be unread are asked for it.
        """

    async def load_weights(self, state: dict[str, Any], version: int) -> str:
        """Take new weights. Tokens sampled later carry `version`, also in completions under way.

        Returns: the checksum of the served weights (`shaping.sampling.transfer.weights`); empty if it was not computed.
        """

    async def load_adapter(self, directory: Path | None, version: int) -> str:
        """Sample with a LoRA adapter on the base weights from now on. Tokens carry `version`.

        Completions under way may keep their adapter and its version.

        Args:
            directory: the adapter in PEFT's layout, which may change or vanish afterwards; None: no adapter.
            version: stamp of the tokens sampled from now on.
        Returns: the adapter's checksum.
        """

    def set_edits(self, edits: Sequence[ActivationEdit]) -> None:
        """Apply these activation edits, and no others, to all tokens sampled from now on."""

    def shutdown(self) -> None:
        """Free all resources. The engine cannot be used afterwards."""
