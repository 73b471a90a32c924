"""Decoding steps as CUDA graphs: a step of a small model is thousands of small kernels, whose launch takes longer than
they run. A graph launches them at once.

A graph reads and writes fixed memory, so it computes a step of all slots up to a number: slots that do not decode
write to the place of their next token, which is overwritten before any token sees it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from shaping.hooks import ActivationEdit
from shaping.models.attention import Rules, attend
from shaping.models.edits import applied
from shaping.models.forward import head_logits, hidden_states
from shaping.sampling.embedded.cache import SlotCache

LOG = logging.getLogger(__name__)
PATIENCE = 8
"""Steps of one shape that are taken one kernel at a time before they are recorded, which takes as long as a few."""
WARM_UP = 2
"""Steps before a recording, in which libraries allocate what they need."""


class AllSlots:
    """The attention plan of one new token in each of the first slots, whose positions [slots, 1] are read in place."""

    def __init__(self, cache: SlotCache, positions: Tensor) -> None:
        self._cache = cache
        self._positions = positions
        self._rows = torch.arange(len(positions), device=positions.device)[:, None]
        self._columns = torch.arange(cache.columns, device=positions.device)
        self._masks: dict[int | None, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        keys, values = (
            self._stored(self._cache.store(layer, what, new), new) for what, new in (("keys", key), ("values", value))
        )
        return attend(query, keys, values, self._visible(rules.window), rules)

    def _visible(self, window: int | None) -> Tensor:
        """Mask [slots, 1, 1, columns] of the columns that the new tokens see. Layers share it."""
        if window not in self._masks:
            seen = self._columns <= self._positions[:, :, None]
            if window is not None:
                seen &= self._columns > self._positions[:, :, None] - window
            self._masks[window] = seen[:, None]
        return self._masks[window]

    def _stored(self, store: Tensor, new: Tensor) -> Tensor:
        store[self._rows, :, self._positions] = new.transpose(1, 2)
        return store[: len(self._rows)]


def step(model: PreTrainedModel, cache: SlotCache, ids: Tensor, positions: Tensor) -> Tensor:
    """Logits [slots, vocabulary] after ids [slots, 1] at positions [slots, 1], one token in each of the first slots."""
    hidden = hidden_states(model, ids, positions, AllSlots(cache, positions))
    return head_logits(model, hidden[:, 0])


class DecodeGraph:
    """A recorded `step`, which is taken with other numbers by every call.

    Args:
        model: the model.
        cache: keys and values of all slots.
        ids, positions: as in `step`; those of the step that comes next, since it is taken before it is recorded.

    Raises: RuntimeError if the model does something that no graph can, such as reading a number back to the CPU.
    """

    def __init__(self, model: PreTrainedModel, cache: SlotCache, ids: Tensor, positions: Tensor) -> None:
        self._ids, self._positions = ids.clone(), positions.clone()
        self._graph = torch.cuda.CUDAGraph()
        other = torch.cuda.Stream(ids.device)
        other.wait_stream(torch.cuda.current_stream(ids.device))
        with torch.cuda.stream(other):
            for _ in range(WARM_UP):
                step(model, cache, self._ids, self._positions)
        torch.cuda.current_stream(ids.device).wait_stream(other)
        # Other threads of this process may go on using the GPU.
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._logits = step(model, cache, self._ids, self._positions)

    def __call__(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Logits [slots, vocabulary], overwritten by the next call, after ids [slots, 1] at positions [slots, 1]."""
        self._ids.copy_(ids)
        self._positions.copy_(positions)
        self._graph.replay()
        return self._logits


class DecodeGraphs:
    """The graphs of one engine. A step that has none yet is taken one kernel at a time (`logits` returns None).

    Args:
        model: the model.
        slots: slots of the engine.
        device: where the model is.
    """

    def __init__(self, model: PreTrainedModel, slots: int, device: torch.device) -> None:
        self._model = model
        self._slots = slots
        self._device = device
        self._graphs: dict[int, DecodeGraph] = {}
        self._steps: dict[int, int] = {}
        self._columns = 0
        self._possible = device.type == "cuda"

    @property
    def recorded(self) -> int:
        """Number of graphs that there are."""
        return len(self._graphs)

    def forget(self) -> None:
        """Drop all graphs: weights, adapters, edits or the cache are other ones now."""
        self._graphs.clear()
        self._steps.clear()

    def logits(
        self, cache: SlotCache, tokens: Mapping[int, int], lengths: Mapping[int, int], edits: Sequence[ActivationEdit]
    ) -> Tensor | None:
        """Logits [decoding slots, vocabulary], in the order of `tokens`; None: there is no graph for this step.

        Args:
            cache: keys and values of all slots.
            tokens: decoding slot -> its new token.
            lengths: open slot -> tokens that it has cached, the new one not counted.
            edits: activation edits of the step.
        """
        if not self._possible:
            return None
        slots = self._rounded(max(tokens) + 1)
        held = [lengths.get(slot, 0) for slot in range(slots)]
        cache.reserve(max(held) + 1)
        if cache.columns != self._columns:
            self._columns = cache.columns
            self.forget()
        # A slot whose context is full has no next place; nothing more is read from its last one.
        positions = torch.tensor(held, device=self._device).clamp_(max=cache.columns - 1)[:, None]
        ids = torch.tensor([tokens.get(slot, 0) for slot in range(slots)], device=self._device)[:, None]
        graph = self._graph(cache, ids, positions, edits)
        return None if graph is None else graph(ids, positions)[list(tokens)]

    def _rounded(self, slots: int) -> int:
        """A power of two, so that few graphs serve all numbers of episodes; at most all slots."""
        return min(1 << (slots - 1).bit_length(), self._slots)

    def _graph(
        self, cache: SlotCache, ids: Tensor, positions: Tensor, edits: Sequence[ActivationEdit]
    ) -> DecodeGraph | None:
        slots = len(ids)
        found = self._graphs.get(slots)
        self._steps[slots] = self._steps.get(slots, 0) + 1
        if found is not None or self._steps[slots] <= PATIENCE:
            return found
        try:
            with applied(self._model, edits):
                self._graphs[slots] = DecodeGraph(self._model, cache, ids, positions)
        except Exception as error:  # models do many things that no graph can
            self._possible = False
            self.forget()
            why = " ".join(str(error).split())[:200]
            LOG.warning("%s is decoded without CUDA graphs, which is slow: %s", type(self._model).__name__, why)
        return self._graphs.get(slots)
