"""Key-value cache with one slot per episode, and its attention plan. Rows may have different lengths."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

GROW = 128
"""Columns are added in multiples of this, so that short episodes do not need memory for the longest context."""


class SlotCache:
    """Keys and values of all layers, shape [slots, kv heads, columns, head dim] each."""

    def __init__(self, model: PreTrainedModel, slots: int, context_length: int) -> None:
        config = model.config.get_text_config()
        self._layers = config.num_hidden_layers
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._context_length = context_length
        self._shape = (slots, heads, 0, dim)
        self._like = next(model.parameters())
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        self.reserve(GROW)

    @property
    def columns(self) -> int:
        """Tokens per slot that are allocated."""
        return self._shape[2]

    def reserve(self, columns: int) -> None:
        """Grow the cache to at least `columns` tokens per slot."""
        if columns <= self.columns:
            return
        slots, heads, old_columns, dim = self._shape
        new_columns = min(-(-columns // GROW) * GROW, self._context_length)
        self._shape = (slots, heads, new_columns, dim)
        for store in (self.keys, self.values):
            for layer in range(self._layers):
                grown = torch.zeros(self._shape, dtype=self._like.dtype, device=self._like.device)
                if layer < len(store):
                    grown[:, :, :old_columns] = store[layer]
                    store[layer] = grown
                else:
                    store.append(grown)


class Slots:
    """The attention plan of one forward pass: new tokens of `rows` (sorted slot numbers) at `positions` [rows, Q].

    Padding tokens take the row's next positions. They are overwritten before any token can attend to them.
    """

    def __init__(self, cache: SlotCache, rows: list[int], positions: Tensor) -> None:
        self._cache = cache
        self._positions = positions
        self._span = int(positions.max()) + 1
        contiguous = rows[-1] - rows[0] + 1 == len(rows)
        self._slice = slice(rows[0], rows[-1] + 1) if contiguous else None
        self._rows = torch.tensor(rows, device=positions.device)
        columns = torch.arange(self._span, device=positions.device)
        self._mask = (columns <= positions[:, :, None])[:, None]

    @property
    def span(self) -> int:
        return self._span

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
        keys = self._store(self._cache.keys[layer], key)
        values = self._store(self._cache.values[layer], value)
        return F.scaled_dot_product_attention(
            query, keys, values, self._mask, scale=scale, enable_gqa=query.shape[1] != key.shape[1]
        )

    def _store(self, store: Tensor, new: Tensor) -> Tensor:
        store[self._rows[:, None], :, self._positions] = new.transpose(1, 2).to(store.dtype)
        if self._slice is not None:
            return store[self._slice, :, : self._span]
        return store[:, :, : self._span].index_select(0, self._rows)  # several times faster than store[rows, ...]
