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

Kept = dict[int, NDArray[np.float32]]
"""Token, counted from the last one of the prompt -> its states [layers, hidden]."""


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
        self._own = [[self.layers.index(layer) for layer in layers] for layers in numbers]
        self.decoded = self.layers if any(c.positions != "prompt_end" for c in captures) else []
        """Layers that a decoding step has to return: none if only states of prompts are asked for."""
        self._unread: dict[int, tuple[Asks, tuple[CompletionStates, ...]]] = {}

    def unread(self, session: int) -> list[int]:
        """The tokens of a session up to one of which states are asked for, but unread; none if there is no such."""
        if session not in self._unread:
            return []
        request, _ = self._unread[session]
        return [*request.tokens, *request.sampled]

    def forget(self, session: int) -> None:
        """A session is over: what is unread stays so."""
        self._unread.pop(session, None)

    def keep(
        self, requests: Sequence[Asks], found: Mapping[int, Tensor], starts: Sequence[int], counts: Sequence[int]
    ) -> None:
        """Keep the states that a pass has found, [rows, width, hidden] per layer; none if it was asked for none.

        Row i holds `counts[i]` tokens, of which the first stands at position `starts[i]`.
        """
        if not found:
            return
        rows, columns, kept = [], [], []
        for row, (request, start, count) in enumerate(zip(requests, starts, counts, strict=True)):
            last = len(request.tokens) - 1
            stop = count if self.decoded else min(last + 1 - start, count)
            own = range(max(last - start, 0), stop)
            rows += [row] * len(own)
            columns += own
            kept += [(request, column + start - last) for column in own]
            if (late := self._unread.get(request.session)) and start <= _end(late[0]) < start + count:
                rows.append(row)
                columns.append(_end(late[0]) - start)
                kept.append((late[0], len(late[0].sampled)))
        if not rows:
            return
        if found[self.layers[0]].shape[1] == 1:  # a decoding step
            states, places = _together([found[layer][:, 0] for layer in self.layers]), rows
        else:
            at = (torch.tensor(rows), torch.tensor(columns))
            states, places = _together([found[layer][at] for layer in self.layers]), list(range(len(rows)))
        for place, (request, number) in zip(places, kept, strict=True):
            request.states[number] = states[place]
        for request in requests:
            self._show_last(request.session)

    def _show_last(self, session: int) -> None:
        """Fill in the states of a completion's last token if they have been read."""
        if session not in self._unread:
            return
        request, shown = self._unread[session]
        if (state := request.states.get(len(request.sampled))) is None:
            return
        for of_capture, own in zip(shown, self._own, strict=True):
            if of_capture.unread:
                of_capture.states[-1] = state[own]
                of_capture.unread = False
        del self._unread[session]

    def completed(self, request: Asks) -> tuple[CompletionStates, ...]:
        """What a completion brings along that has ended; none if nothing was to be sampled."""
        if not self._captures or not (sampled := len(request.sampled)):
            return ()
        states = np.stack([request.states[number] for number in range(sampled if self.decoded else 1)])
        found = []
        for capture, own in zip(self._captures, self._own, strict=True):
            if capture.positions == "prompt_end":
                found.append(CompletionStates(capture, states[:1, own]))
                continue
            of_tokens = np.full((sampled, len(own), states.shape[2]), np.nan, np.float32)
            of_tokens[:-1] = states[1:, own]
            found.append(CompletionStates(capture, of_tokens, unread=True))
        if self.decoded:
            self._unread[request.session] = request, tuple(found)
        return tuple(found)


def _end(request: Asks) -> int:
    """The position of the last token of a completion that has ended."""
    return len(request.tokens) + len(request.sampled) - 1


def _together(found: list[Tensor]) -> NDArray[np.float32]:
    """The states of layers, each [tokens, hidden], as [tokens, layers, hidden]."""
    together: NDArray[np.float32] = torch.stack(found, dim=1).float().cpu().numpy()
    return together
