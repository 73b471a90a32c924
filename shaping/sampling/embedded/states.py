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
            self._numbers = [layer_numbers(model, c.layers, f"capture {c.name!r}") for c in captures]
        except ValueError as error:
            raise EngineError(str(error)) from None
        self.layers = sorted({layer for layers in self._numbers for layer in layers})
        """Layers that a pass has to return."""
        self.ends = any(c.positions != "prompt_end" for c in captures)
        """Must the last token of a completion be read, too? Nothing is sampled after it."""

    def keep(
        self, requests: Sequence[Asks], found: Mapping[int, Tensor], starts: Sequence[int], counts: Sequence[int]
    ) -> None:
        """Keep the states that a pass has found, [rows, width, hidden] per layer.

        Row i holds `counts[i]` tokens, of which the first stands at position `starts[i]`.
        """
        rows, columns, numbers = [], [], []
        for row, (request, start, count) in enumerate(zip(requests, starts, counts, strict=True)):
            last = len(request.tokens) - 1
            for column in range(max(last - start, 0), count):
                if self.ends or start + column == last:
                    rows.append(row)
                    columns.append(column)
                    numbers.append(start + column - last)
        if not rows or not self.layers:
            return
        if found[self.layers[0]].shape[1] == 1:  # a decoding step, of which every row is kept
            kept = [found[layer][:, 0] for layer in self.layers]
        else:
            at = (torch.tensor(rows), torch.tensor(columns))
            kept = [found[layer][at] for layer in self.layers]
        states = torch.stack(kept, dim=1).float().cpu().numpy()
        for row, number, state in zip(rows, numbers, states, strict=True):
            requests[row].states[number] = state

    def has_all(self, request: Asks) -> bool:
        """Have the states of all tokens sampled so far been kept that captures ask for?"""
        return not self.ends or len(request.sampled) in request.states

    def completed(self, request: Asks) -> tuple[CompletionStates, ...]:
        """What a completion brings along that has ended, and of which `has_all` is true."""
        sampled = len(request.sampled)
        found = []
        for capture, layers in zip(self._captures, self._numbers, strict=True):
            numbers = [0] if capture.positions == "prompt_end" else range(1, sampled + 1)
            own = [self.layers.index(layer) for layer in layers]
            found.append(CompletionStates(capture, np.stack([request.states[n][own] for n in numbers])))
        return tuple(found)
