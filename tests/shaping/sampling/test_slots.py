"""The key-value cache: rows read together, with idle slots among them, are what each row is alone."""

import pytest
import torch

from shaping.models.attention import Rules
from shaping.sampling.embedded.cache import SlotCache, Slots

CPU = torch.device("cpu")
SLOTS, HEADS, SHARED, SIZE, HELD = 6, 4, 2, 8, 40


def filled() -> SlotCache:
    """Random keys and values of one layer."""
    cache = SlotCache(SLOTS, HELD)
    for what in ("keys", "values"):
        store = cache.store(0, what, torch.zeros(1, SHARED, 1, SIZE))
        store.copy_(torch.randn(store.shape, generator=torch.Generator().manual_seed(len(what))))
    return cache


@pytest.mark.parametrize("new", [1, 3, 9])
@pytest.mark.parametrize("rules", [Rules(), Rules(window=5), Rules(softcap=2.0), Rules(sinks=torch.ones(HEADS))])
@pytest.mark.parametrize("rows", [[0, 1, 2], [0, 2, 3, 5], [0, 5], [4], [1, 2, 4, 5]])
def test_a_row_is_the_same_alone_and_among_busy_and_idle_slots(rows: list[int], rules: Rules, new: int) -> None:
    torch.manual_seed(0)
    positions = torch.tensor([3, 20, 11, 7])[: len(rows), None] + torch.arange(new)
    query = torch.randn(len(rows), HEADS, new, SIZE)
    key, value = torch.randn(2, len(rows), SHARED, new, SIZE)
    alone_cache, cache = filled(), filled()
    alone = [
        Slots(alone_cache, [row], positions[[n]], CPU).attend(0, query[[n]], key[[n]], value[[n]], rules)
        for n, row in enumerate(rows)
    ]
    for what in ("keys", "values"):
        store = cache.store(0, what, key)  # idle slots may hold anything
        store[[slot for slot in range(SLOTS) if slot not in rows]] = torch.nan
    together = Slots(cache, rows, positions, CPU).attend(0, query, key, value, rules)
    torch.testing.assert_close(together, torch.cat(alone))
    for what in ("keys", "values"):
        assert torch.equal(cache.store(0, what, key)[rows], alone_cache.store(0, what, key)[rows])


def test_keys_and_values_are_copied_only_where_most_slots_are_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[torch.Tensor] = []
    select = torch.Tensor.index_select
    monkeypatch.setattr(torch.Tensor, "index_select", lambda *them: copied.append(them[0]) or select(*them))
    counts = []
    for rows in ([0, 1, 2], [0, 1, 3], [0, 5]):  # all busy, most busy, few busy
        copied.clear()
        key, value = torch.randn(2, len(rows), SHARED, 1, SIZE)
        query, at = torch.randn(len(rows), HEADS, 1, SIZE), torch.tensor([[5]] * len(rows))
        Slots(filled(), rows, at, CPU).attend(0, query, key, value, Rules())
        counts.append(len(copied))
    assert counts == [0, 0, 2]
