"""The growing token sequence of one episode, with all per-token records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.episode import Contexts, Episode, Event, Forced, Labels, RolloutStatus, Sealed, SpanKind, Turn
from shaping.hooks import Prefill
from shaping.sampling.engine import Completion, CompletionStates
from shaping.sampling.text.render import Message, Renderer
from shaping.sampling.text.split import Splitter

CHARACTERS_PER_TOKEN = 16
"""A text with more characters per token of the context is too long for it, and is not even tokenised."""


class Transcript:
    """Collects observations and completions. The engine continues `tokens`.

    Args:
        renderer: of the engine's tokenizer.
        splitter: splits completions into motive and action.
        contexts: sampling and training context.
        observation: the first one.
        limit: tokens that may stand before a completion; None: any number. It holds under both contexts.
    """

    def __init__(
        self, renderer: Renderer, splitter: Splitter, contexts: Contexts, observation: str, limit: int | None = None
    ) -> None:
        self._renderer = renderer
        self._splitter = splitter
        self._contexts = contexts
        self._limit = limit
        self._tokens = self._opening(observation)
        self.full = not self._tokens
        """Is the first observation too long? Then no completion may follow."""
        self.head = len(self._tokens)
        self._kinds: list[int] = [SpanKind.PROMPT] * self.head
        self._index: list[int] = [-1] * self.head
        self._mask: list[bool] = [False] * self.head
        self._logprobs: list[float] = [0.0] * self.head
        self._segments = [0]
        self._messages = [Message("user", observation)]
        self._finished = True
        self._pending: list[Turn] = []
        self._states: list[dict[str, NDArray[np.float32]]] = []
        self._last: tuple[Sequence[int], tuple[CompletionStates, ...]] | None = None
        self._spoken = slice(0)
        self._forced: tuple[Prefill, list[int]] | None = None

    def _opening(self, observation: str) -> list[int]:
        """The prompt; empty if it is too long. A longer training context leaves less room for what follows."""
        sampling, training = self._contexts.sampling.system, self._contexts.training.system
        if self._too_long(f"{sampling}{observation}") or self._too_long(f"{training}{observation}"):
            return []
        ids = self._renderer.open(sampling, observation)
        if self._limit is not None:
            if training != sampling:
                self._limit -= max(len(self._renderer.open(training, observation)) - len(ids), 0)
            if len(ids) > self._limit:
                return []
        return ids

    def _too_long(self, text: str) -> bool:
        return self._limit is not None and len(text) > CHARACTERS_PER_TOKEN * self._limit

    @property
    def tokens(self) -> list[int]:
        """Tokens of the current segment, which the engine continues."""
        return self._tokens[self._segments[-1] :]

    def observe(self, observation: str) -> bool:
        """Append an observation. A template that breaks the prefix starts a new segment here.

        Returns: False if it does not fit: nothing was appended, and no completion may follow.
        """
        if self._too_long(observation):
            return False
        message = Message("user", observation)
        if self._renderer.stable:
            ids = self._renderer.extend(observation, finished=self._finished)
            length = len(self._tokens) - self._segments[-1] + len(ids)
        else:
            system = self._contexts.sampling.system
            ids = self._renderer.conversation([Message("system", system)] * bool(system) + [*self._messages, message])
            length = len(ids)
        if self._limit is not None and length > self._limit:
            return False
        if not self._renderer.stable:
            self._segments.append(len(self._tokens))
        self._messages.append(message)
        self._append(ids, SpanKind.OBSERVATION)
        return True

    def conclude(self, observation: str, room: int) -> None:
        """Append the observation after which an episode is cut off, if it fits into the limit and `room` more tokens.

        A critic reads there what would have followed. No completion may follow.
        """
        if self._limit is not None:
            self._limit += room
        self.observe(observation)

    def force(self, prefill: Prefill) -> None:
        """Open the next completion with a text that is not sampled."""
        ids = self._renderer.plain(prefill.text)
        self._append(ids, SpanKind.FORCED, learned=prefill.loss == "in")
        self._forced = prefill, ids

    def text(self, completion: Completion) -> str:
        """Text of a completion, with what opens it."""
        return "".join(self._pieces(completion))

    def _pieces(self, completion: Completion) -> list[str]:
        return self._renderer.pieces([*(self._forced[1] if self._forced else []), *completion.tokens.tolist()])

    def act(self, observation: str, completion: Completion, *, overt_shortcuts: tuple[str, ...], rejected: int) -> Turn:
        """Append a completion and return its turn, still without the world's response."""
        pieces = self._pieces(completion)
        text = "".join(pieces)
        motive, action = self._splitter.ranges(text)
        first = len(self._forced[1]) if self._forced else 0
        offset = length = sum(map(len, pieces[:first]))
        kinds = []
        for token, piece, logprob in zip(completion.tokens, pieces[first:], completion.logprobs, strict=True):
            kind = SpanKind.MOTIVE if offset < motive.stop else SpanKind.ACTION
            kinds.append(kind)
            self._append([int(token)], kind, learned=True, logprob=float(logprob))
            offset += len(piece)
        # Another end than the template's is followed by the template's, as if the reply had been cut off there.
        self._finished = completion.finished and int(completion.tokens[-1]) == self._renderer.eos
        self._messages.append(Message("assistant", text))
        turn = Turn(
            observation=observation,
            completion=text,
            motive=motive,
            action=action,
            executed="",
            reward=0.0,
            events=(),
            tokens=completion.tokens,
            logprobs=completion.logprobs,
            policy_versions=completion.policy_versions,
            masked_tokens=completion.masked_tokens,
            overt_shortcuts=overt_shortcuts,
            rejected=rejected,
            overlong=not completion.finished,
            forced=_record(self._forced[0], length) if self._forced else Forced(),
        )
        self._forced = None
        self._pending.append(turn)
        self._average()
        self._last, self._spoken = (kinds, completion.states), slice(self._segments[-1], len(self._tokens))
        return turn

    @property
    def unread(self) -> list[int]:
        """The segment up to the end of the last completion, if states of it are still unread; otherwise empty."""
        late = self._last is not None and any(states.unread for states in self._last[1])
        return self._tokens[self._spoken] if late else []

    def _average(self) -> None:
        """Replace the states of the last completion by their means. They are all there once the next one is."""
        if self._last is not None:
            kinds, found = self._last
            self._states.append({states.capture.name: states.mean(kinds) for states in found})
            self._last = None

    def settle(self, *, executed: str, reward: float, events: tuple[Event, ...]) -> None:
        """Complete the last turn with the world's response."""
        self._pending[-1] = replace(self._pending[-1], executed=executed, reward=reward, events=events)

    def _append(self, ids: list[int], kind: SpanKind, *, learned: bool = False, logprob: float = 0.0) -> None:
        self._tokens += ids
        self._kinds += [kind] * len(ids)
        self._index += [len(self._pending)] * len(ids)
        self._mask += [learned] * len(ids)
        self._logprobs += [logprob] * len(ids)

    def episode(
        self,
        *,
        world: str,
        seed: int,
        group: int,
        arm: str,
        status: RolloutStatus,
        truth: list[Labels],
        options: Mapping[str, Any],
        error: str = "",
    ) -> Episode:
        """Return the finished episode. It keeps the turns that have labels in `truth`, which is sealed."""
        return Episode(
            world=world,
            seed=seed,
            group=group,
            arm=arm,
            status=status,
            contexts=self._contexts,
            turns=tuple(self._pending[: len(truth)]),
            truth=Sealed(tuple(truth)),
            tokens=np.array(self._tokens, np.int32),
            loss_mask=np.array(self._mask, np.bool_),
            span_kind=np.array(self._kinds, np.int8),
            turn_index=np.array(self._index, np.int16),
            logprobs=np.array(self._logprobs, np.float32),
            head=self.head,
            segments=tuple(self._segments),
            options=dict(options),
            error=error,
            activations=self._activations(len(truth)),
        )

    def _activations(self, turns: int) -> dict[str, NDArray[np.float32]]:
        if turns > len(self._states):  # a last turn without the world's answer has no states that anyone reads
            self._average()
        names = self._states[0] if turns else ()
        return {name: np.stack([of_turn[name] for of_turn in self._states[:turns]]) for name in names}


def _record(prefill: Prefill, length: int) -> Forced:
    """What an episode keeps of a text that was forced."""
    corrected = prefill.proposal is not None
    return Forced(prefill.name, length, prefill.loss == "stripped", corrected, float(prefill.proposal or 0.0))
