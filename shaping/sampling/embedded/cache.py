"""Key-value cache with one slot per episode, and its attention plan. Rows may have different lengths."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from shaping.models.attention import FEW, Rules, attend
from shaping.models.forward import head_logits, layout_of
from shaping.models.self_check import LENGTHS, Plain, packed_states, probes, short_windows

GROW = 128
"""Columns are added in multiples of this, so that short episodes do not need memory for the longest context."""
BUSY = 0.5
"""The share of busy slots from which a CPU decodes over the idle ones between them, too. For 16 and 32 slots it is
1.4 to 1.7 times as fast in float32, and 1 to 1.4 times in bfloat16, as to copy what the busy ones have stored."""


class SlotCache:
    """Keys and values of all layers, shape [slots, kv heads, columns, head dim] each.

    A layer's heads and dims are those of the first keys and values that it stores: they may differ between layers, and
    between keys and values.
    """

    def __init__(self, slots: int, context_length: int) -> None:
        self._slots = slots
        self._context_length = context_length
        self.columns = 0
        """Tokens per slot that are allocated."""
        self._stores: dict[tuple[int, str], Tensor] = {}
        self.reserve(GROW)

    def reserve(self, columns: int) -> None:
        """Grow the cache to at least `columns` tokens per slot."""
        if columns <= self.columns:
            return
        old_columns, self.columns = self.columns, min(-(-columns // GROW) * GROW, self._context_length)
        for key, store in self._stores.items():
            grown = self._zeros(store)
            grown[:, :, :old_columns] = store
            self._stores[key] = grown

    def store(self, layer: int, what: str, like: Tensor) -> Tensor:
        """The keys or values of a layer, of which `like` [rows, kv heads, new tokens, head dim] is stored next."""
        if (layer, what) not in self._stores:
            self._stores[layer, what] = self._zeros(like)
        return self._stores[layer, what]

    def _zeros(self, like: Tensor) -> Tensor:
        return like.new_zeros(self._slots, like.shape[1], self.columns, like.shape[3])


class Slots:
    """The attention plan of one forward pass: new tokens of `rows` (sorted slot numbers) at `positions` [rows, Q].

    Padding tokens take the row's next positions. They are overwritten before any token can attend to them.

    `positions` are best given on the CPU, where they are looked at; `device` is that of the cache.
    """

    def __init__(self, cache: SlotCache, rows: list[int], positions: Tensor, device: torch.device) -> None:
        self._cache = cache
        self._span = int(positions.max()) + 1
        # The first tokens of all rows need no cache and no mask, only causality, for which a GPU has faster kernels.
        self._first = device.type == "cuda" and positions.shape[1] > 1 and not bool(positions[:, 0].any())
        self._positions = self._seen = positions.to(device)
        self._rows = torch.tensor(rows, device=device)
        slots = rows[-1] - rows[0] + 1
        few = device.type == "cpu" and positions.shape[1] <= FEW
        idle = few and BUSY * slots <= len(rows) < slots
        self._slice = slice(rows[0], rows[-1] + 1) if idle or len(rows) == slots else None
        self._among = (self._rows - rows[0], slots) if idle else None
        if idle:
            self._seen = self._among_idle(self._positions)  # an idle slot sees one token, so that it has an output
        columns = torch.arange(self._span, device=device)
        self._mask = (columns <= self._seen[:, :, None])[:, None]
        self._windows: dict[int, Tensor] = {}

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        keys = self._store(self._cache.store(layer, "keys", key), key)
        values = self._store(self._cache.store(layer, "values", value), value)
        if self._first:
            return attend(query, key, value, None, rules)
        found = attend(self._among_idle(query), keys, values, self._visible(rules.window), rules)
        return found if self._among is None else found[self._among[0]]

    def _among_idle(self, busy: Tensor) -> Tensor:
        """Rows of all slots between the first and the last, zeros where a slot is idle; or `busy`, if they are none."""
        if self._among is None:
            return busy
        places, slots = self._among
        return busy.new_zeros(slots, *busy.shape[1:]).index_copy_(0, places, busy)

    def _visible(self, window: int | None) -> Tensor:
        """Mask [rows, 1, Q, columns] of the columns that each new token sees."""
        if window is None or window >= self._span:
            return self._mask
        if window not in self._windows:
            columns = torch.arange(self._span, device=self._seen.device)
            self._windows[window] = self._mask & (columns > self._seen[:, :, None] - window)[:, None]
        return self._windows[window]

    def _store(self, store: Tensor, new: Tensor) -> Tensor:
        store[self._rows[:, None], :, self._positions] = new.transpose(1, 2)
        if self._slice is not None:
            return store[self._slice, :, : self._span]
        return store[:, :, : self._span].index_select(0, self._rows)  # several times faster than store[rows, ...]


@torch.no_grad()
def why_not_cached(model: PreTrainedModel) -> str:
    """Why a model cannot sample from a slot cache; empty if it gives the log-probs of its own forward pass there.

    Two rows of different lengths are read in two parts, and then one token at a time.
    """
    if why := layout_of(model).why:
        return f"packing {why}"
    with short_windows(model):
        plain = Plain.of(model)
        try:
            found = _read(model, *probes(model))
        except Exception as error:  # models raise exceptions of many types for arguments that they do not take
            return f"the cache fails: {' '.join(str(error).split())[:200] or type(error).__name__}"
    apart = plain.apart(found)
    return "" if apart <= plain.tolerance else f"the cache gives log-probs that differ by {apart:.2g}"


def _read(model: PreTrainedModel, short: Tensor, long: Tensor) -> Tensor:
    """Logits [tokens, vocabulary] of both sequences, read through a cache."""
    cache = SlotCache(2, max(LENGTHS))
    whole = torch.zeros(2, len(long), dtype=torch.long, device=long.device)
    whole[0, : len(short)], whole[1] = short, long
    half = len(short) // 2 + 1
    logits = []
    for start, stop in ((0, half), (half, len(short)), *((n, n + 1) for n in range(len(short), len(long)))):
        rows = [0, 1] if stop <= len(short) else [1]
        positions = torch.arange(start, stop, device=long.device).expand(len(rows), -1)
        plan = Slots(cache, rows, positions, long.device)
        logits.append((rows, head_logits(model, packed_states(model, whole[rows, start:stop], positions, plan))))
    first = torch.cat([part[0] for rows, part in logits if rows == [0, 1]])
    second = torch.cat([part[-1] for _, part in logits])
    return torch.cat([first, second])
