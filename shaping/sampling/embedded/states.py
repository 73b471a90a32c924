"""Hidden states that plug-ins asked for, from the passes with which an engine samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from shaping.hooks import Capture
from shaping.models.capture import layer_numbers
from shaping.sampling.engine import CompletionStates, EngineError

Kept = list[NDArray[np.float32]]
"""States [layers, hidden] of the tokens read so far, from the last one of the prompt on."""


class Asks(Protocol):
    """A completion under way."""

    @property
    def session(self) -> int:
        """Its session."""

    @property
    def tokens(self) -> Sequence[int]:
        """Its prompt."""

    @property
    def sampled(self) -> Sequence[int]:
        """What has been sampled so far."""

    @property
    def states(self) -> Kept:
        """What has been kept of it."""


class Reader:
    """Keeps what captures ask for. With none to capture, it changes nothing.

    Args:
        model: the model that samples.
        captures: what to keep.
    Raises: `EngineError` if the model does not have a layer.
    """

    def __init__(self, model: PreTrainedModel, captures: Sequence[Capture]) -> None:
        self._captures = tuple(captures)
        try:
            numbers = [layer_numbers(model, c.layers, f"capture {c.name!r}") for c in captures]
        except ValueError as error:
            raise EngineError(str(error)) from None
        self.layers = sorted({layer for layers in numbers for layer in layers})
        """Layers that a pass over prompts has to return."""
        self._own = [slice(None) if list(own) == self.layers else list(map(self.layers.index, own)) for own in numbers]
        self.decoded = self.layers if any(c.positions != "prompt_end" for c in captures) else []
        """Layers that a decoding step has to return: none if only states of prompts are asked for."""
        self._unread: dict[int, tuple[list[int], tuple[CompletionStates, ...]]] = {}

    def unread(self, session: int) -> list[int]:
        """The tokens of a session up to one of which states are asked for, but unread; none if there is no such."""
        return self._unread[session][0] if session in self._unread else []

    def forget(self, session: int) -> None:
        """A session is over: what is unread stays so."""
        self._unread.pop(session, None)

    def keep(
        self, requests: Sequence[Asks], found: Mapping[int, Tensor], starts: Sequence[int], counts: Sequence[int]
    ) -> None:
        """Keep the states that a pass has found, [rows, width, hidden] per layer; none if it was asked for none.

        Row i holds `counts[i]` tokens, of which the first stands at position `starts[i]`. The first pass of a session
        after a completion holds its last token.
        """
        if not found:
            return
        if found[self.layers[0]].shape[1] == 1:  # a decoding step: the most frequent pass, and the simplest
            states = _together([found[layer] for layer in self.layers])[:, 0]
            for request, start, state in zip(requests, starts, states, strict=True):
                if start < len(request.tokens):  # nothing of it has been decoded yet
                    request.states.clear()
                    self._fill_in(request.session, state)
                request.states.append(state)
            return
        rows, columns, lengths = [], [], []
        for row, (request, start, count) in enumerate(zip(requests, starts, counts, strict=True)):
            last = len(request.tokens) - 1 - start
            own = list(range(max(last, 0), count if self.decoded else last + 1))
            unread = self.unread(request.session)
            columns += [*own, len(unread) - 1 - start if unread else 0]  # the last one is for `_fill_in`
            rows += [row] * (len(own) + 1)
            lengths.append(len(own))
        taken = (torch.tensor(rows), torch.tensor(columns))
        states = _together([found[layer][taken] for layer in self.layers])
        at = 0
        for request, start, length in zip(requests, starts, lengths, strict=True):
            request.states[max(start + 1 - len(request.tokens), 0) :] = states[at : at + length]
            self._fill_in(request.session, states[at + length])
            at += length + 1

    def _fill_in(self, session: int, state: NDArray[np.float32]) -> None:
        """These are the states [layers, hidden] of the token of a session that was unread, if one was."""
        _, shown = self._unread.pop(session, ([], ()))
        for of_capture, own in zip(shown, self._own, strict=False):
            if of_capture.unread:
                of_capture.states[-1] = state[own]
                of_capture.unread = False

    def completed(self, request: Asks) -> tuple[CompletionStates, ...]:
        """What a completion brings along that has ended; none if nothing was to be sampled."""
        if not self._captures or not request.sampled:
            return ()
        found = []
        for capture, own in zip(self._captures, self._own, strict=True):
            late = capture.positions != "prompt_end"
            states = [*request.states[1:], request.states[0]] if late else request.states[:1]
            together = np.concatenate(states).reshape(len(states), len(self.layers), -1)[:, own]
            if late:
                together[-1] = np.nan  # in the place of the last token
            found.append(CompletionStates(capture, together, unread=late))
        if self.decoded:
            self._unread[request.session] = [*request.tokens, *request.sampled], tuple(found)
        return tuple(found)


def _together(found: list[Tensor]) -> NDArray[np.float32]:
    """The states of layers, [..., hidden] each, as [..., layers, hidden]."""
    states: NDArray[np.float32] = torch.stack(found, dim=-2).float().cpu().numpy()
    return states
