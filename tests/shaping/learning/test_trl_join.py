"""Rows of TRL's batch and the episodes they are: found by their tokens, or an error; nothing is swapped silently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from shaping.trl.join import KEYS, SideData, TRLError
from shaping.trl.rollouts import Row

ROW = Row((1, 2), (3, 4, 5), np.array([1, 0, 1]), np.zeros(3, np.float32), np.ones(3, np.float32), 1.0)


def one_row() -> dict[str, Any]:
    """TRL's batch of `ROW`, padded on both sides with a token that is also in the row."""
    return {
        "prompt_ids": torch.tensor([[3, 1, 2]]),
        "prompt_mask": torch.tensor([[0, 1, 1]]),
        "completion_ids": torch.tensor([[3, 4, 5, 3]]),
        "completion_mask": torch.tensor([[1, 1, 1, 0]]),
        "tool_mask": torch.tensor([[1, 0, 1, 1]]),
        "advantages": torch.tensor([0.5]),
        "sampling_per_token_logps": torch.zeros(1, 4),
    }


def side(uses: int = 1) -> SideData:
    made = SideData(uses, "sampler")
    made.put([ROW])
    return made


def test_padding_is_told_by_the_mask_not_by_the_token() -> None:
    inputs = one_row()
    assert side().shaped(inputs)["advantages"].tolist() == [[1.0, 1.0, 1.0, 0.0]]
    assert inputs["advantages"].tolist() == [0.5]


@pytest.mark.parametrize("key", KEYS)
def test_a_missing_key_is_named_with_the_version(key: str) -> None:
    inputs = one_row()
    del inputs[key]
    with pytest.raises(TRLError, match=rf"TRL 1\.16.*no '{key}'"):
        side().shaped(inputs)


def test_a_row_that_was_not_played_is_an_error() -> None:
    inputs = one_row()
    inputs["completion_ids"][0, 1] = 9
    with pytest.raises(TRLError, match=r"row 0 .* 'completion_ids' .* no episode of this generation"):
        side().shaped(inputs)


def test_a_row_is_used_as_often_as_trl_iterates_and_no_more() -> None:
    joined = side(uses=2)
    joined.shaped(one_row())
    joined.shaped(one_row())
    with pytest.raises(TRLError, match="used 2 times already"):
        joined.shaped(one_row())


def test_another_mask_is_an_error() -> None:
    inputs = one_row()
    inputs["tool_mask"][0, 1] = 1
    with pytest.raises(TRLError, match="'tool_mask' of row 0"):
        side().shaped(inputs)
