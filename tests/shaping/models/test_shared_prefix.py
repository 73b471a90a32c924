"""Attention over a row that holds common prefixes once is that of every sequence by itself, forward and backward."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
import pytest
import torch
from rounding import assert_same_but_rounding
from torch import Tensor

from shaping.models.attention import Packed, Rules
from shaping.models.shared_prefix import Family, SharedPrefixes, common_prefix

FAMILIES = (Family(12, (3, 15, 5)), Family(0, (7,)), Family(4, (1, 9, 2, 9)), Family(6, (5,)))
RULES = {
    "plain": Rules(),
    "scaled": Rules(scale=0.3),
    "window": Rules(window=5),
    "window of two": Rules(window=2),
    "wide window": Rules(window=13),
    "soft cap": Rules(softcap=2.0),
    "sinks": Rules(window=6, sinks=torch.tensor([0.5, -1.0, 2.0, 0.0])),
}


def row(seed: int) -> Tensor:
    """Query, key and value of a row, and what the gradient of its result is; as many heads of keys as of queries."""
    tokens = sum(family.tokens for family in FAMILIES)
    return torch.randn(4, 1, 4, tokens, 8, generator=torch.Generator().manual_seed(seed))


def attended(way: str, rules: Rules, groups: int) -> list[Tensor]:
    """(result, gradients of query, key and value)."""
    given = row(0)
    query, key, value = (t.clone().requires_grad_() for t in (given[0], given[1, :, ::groups], given[2, :, ::groups]))
    plan = SharedPrefixes(FAMILIES)
    if way == "by hand":
        begins = accumulate((family.tokens for family in FAMILIES), initial=0)
        found = torch.zeros_like(query)
        for family, begin in zip(FAMILIES, begins, strict=False):
            places = family.places(begin)
            for prefix, own in zip(places[::2], places[1::2], strict=True):
                at = torch.tensor([*prefix, *own])
                alone = Packed([0, len(at)]).attend(0, query[:, :, at], key[:, :, at], value[:, :, at], rules)
                found = found.index_copy(2, at, alone)
    else:
        found = (plan.attend if way == "attend" else plan.one_by_one)(0, query, key, value, rules)
    (found * given[3]).sum().backward()
    return [found.detach(), *(t.grad for t in (query, key, value) if t.grad is not None)]


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
@pytest.mark.parametrize("way", ["attend", "one by one"])
def test_each_sequence_sees_the_prefix_and_its_own_tokens(way: str, rules: Rules, groups: int) -> None:
    assert_same_but_rounding(attended(way, rules, groups), attended("by hand", rules, groups))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [([1, 2, 3], [1, 2, 4], 2), ([1, 2], [1, 2, 3], 2), ([5], [1, 5], 0), ([], [1], 0), ([1, 2, 1], [1, 3, 1], 1)],
)
def test_two_sequences_begin_alike(one: list[int], other: list[int], expected: int) -> None:
    assert common_prefix(one, other) == common_prefix(other, one) == expected
    assert common_prefix(np.array(one, np.int64), np.array(other, np.int64)) == expected
