"""Attention over packed sequences of which some begin alike: the row holds their common prefix once.

The method is Prefix Grouper's (arXiv:2506.05433): tokens of a prefix see the prefix, each sequence's own tokens see the
prefix and those of them that come before. Keys, values and everything outside of attention are computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from shaping.models.attention import Packed, Rules, attend


def common_prefix(one: ArrayLike, other: ArrayLike) -> int:
    """Number of first tokens in which two sequences of token ids [tokens] agree."""
    first, second = np.asarray(one), np.asarray(other)
    length = min(len(first), len(second))
    differ = np.flatnonzero(first[:length] != second[:length])
    return int(differ[0]) if len(differ) else length


@dataclass(frozen=True, slots=True)
class Family:
    """Sequences that lie together in a row: their common prefix, then the own tokens of one after the other."""

    prefix: int
    """Tokens of the common prefix; 0: a sequence by itself."""
    own: tuple[int, ...]
    """Tokens of each sequence after the prefix, at least one."""

    @property
    def tokens(self) -> int:
        """Tokens in the row."""
        return self.prefix + sum(self.own)

    def places(self, start: int) -> list[range]:
        """Where the tokens of each sequence lie in a row in which the family begins at `start`, as ranges in order."""
        begins = accumulate(self.own, initial=start + self.prefix)
        own = (range(begin, begin + length) for begin, length in zip(begins, self.own, strict=False))
        return list(chain.from_iterable((range(start, start + self.prefix), of_one) for of_one in own))


@dataclass(frozen=True, slots=True)
class SharedPrefixes:
    """Families laid end to end in one row of tokens."""

    families: Sequence[Family]
    """The families, in order."""
    _kept: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    """What all layers share: masks, and the plan of the same sequences laid out one by one."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        if query.is_cuda:  # one call of a fused kernel matters more than keys that are read again
            return self.one_by_one(layer, query, key, value, rules)
        lengths = [length for family in self.families for length in (family.prefix + family.own[0], *family.own[1:])]
        # split() rather than slices: the gradient of each slice would be a tensor as large as the whole row.
        parts = iter(zip(*(tensor.split(lengths, dim=2) for tensor in (query, key, value)), strict=True))
        found = []
        for family in self.families:
            q, k, v = next(parts)
            found.append(attend(q, k, v, None, rules))  # the first sequence follows its prefix, as usual
            if len(family.own) > 1:
                tail = family.prefix if rules.window is None else min(family.prefix, rules.window - 1)
                seen = [t[:, :, family.prefix - tail : family.prefix] for t in (q, k, v)]
                found += [self._own(next(parts), seen, family, rules) for _ in family.own[1:]]
        return torch.cat(found, dim=2)

    def one_by_one(self, layer: int, query: Tensor, key: Tensor, value: Tensor, rules: Rules) -> Tensor:
        """The same attention with every sequence copied out of the row, as one packed call."""
        plan, taken, first = self._copies(query.device)
        q, k, v = (tensor.index_select(2, taken) for tensor in (query, key, value))
        return plan.attend(layer, q, k, v, rules).index_select(2, first)

    def _own(self, own: Sequence[Tensor], seen: Sequence[Tensor], family: Family, rules: Rules) -> Tensor:
        """Attention of one sequence's own tokens. `seen`: query, key and value of the prefix, as far as they see it."""
        length, tail = own[0].shape[2], seen[0].shape[2]
        key, value = (torch.cat([theirs, mine], dim=2) for theirs, mine in zip(seen[1:], own[1:], strict=True))
        if tail < length:
            # The causal kernel skips half of the scores, which a mask computes: it pays to ask for the prefix again.
            query = torch.cat([seen[0], own[0]], dim=2)
            return attend(query, key, value, None, rules)[:, :, tail:]
        mask = self._mask(tail, max(family.own), rules.window, key.device)
        return attend(own[0], key, value, mask[:length, : tail + length], rules)

    def _mask(self, tail: int, length: int, window: int | None, device: torch.device) -> Tensor:
        """What `length` own tokens see of `tail` tokens of the prefix and themselves, [length, tail + length]."""
        name = (tail, length, window, device)
        if name not in self._kept:
            ago = torch.arange(tail, tail + length, device=device)[:, None] - torch.arange(tail + length, device=device)
            self._kept[name] = (ago >= 0) if window is None else (ago >= 0) & (ago < window)
        return self._kept[name]

    def _copies(self, device: torch.device) -> tuple[Packed, Tensor, Tensor]:
        """(plan of the sequences one by one, the place in the row of each of its tokens, and the reverse)."""
        if device not in self._kept:
            begins = accumulate((family.tokens for family in self.families), initial=0)
            places = [family.places(begin) for family, begin in zip(self.families, begins, strict=False)]
            taken = np.concatenate([np.asarray(piece) for of_family in places for piece in of_family])
            first = np.unique(taken, return_index=True)[1]
            plan = Packed([0, *accumulate(f.prefix + own for f in self.families for own in f.own)])
            self._kept[device] = plan, *(torch.from_numpy(index).long().to(device) for index in (taken, first))
        return self._kept[device]
