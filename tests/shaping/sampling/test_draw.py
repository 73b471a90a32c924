"""Tokens drawn by the inverse of the cumulative distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from shaping.sampling.embedded.draw import BLOCK, Drawing


def draw(logits: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    return Drawing()(logits, uniforms, torch.zeros(len(logits), dtype=torch.bool))[0]


def by_numpy(logprobs: torch.Tensor, uniforms: torch.Tensor) -> list[int]:
    """The definition, in float64."""
    cumulative = logprobs.double().exp().cumsum(-1).numpy()
    return [int(np.searchsorted(c, u * c[-1], side="right")) for c, u in zip(cumulative, uniforms.numpy(), strict=True)]


def logprobs_of(rows: int, vocabulary: int, seed: int, spread: float = 3.0) -> torch.Tensor:
    logits = torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(seed)) * spread
    logits[torch.rand(rows, vocabulary, generator=torch.Generator().manual_seed(seed + 1)) < 0.3] = -torch.inf
    return torch.log_softmax(logits, -1)


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.sampled_from([3, 320, BLOCK, BLOCK + 1, 3 * BLOCK, 20_000]),
    seed=st.integers(0, 1000),
    spread=st.sampled_from([0.1, 3.0, 30.0]),
)
def test_the_token_is_that_of_the_definition(vocabulary: int, seed: int, spread: float) -> None:
    logprobs = logprobs_of(16, vocabulary, seed, spread)
    logprobs = logprobs[torch.isfinite(logprobs).any(-1)]
    uniforms = torch.rand(len(logprobs), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    drawn = draw(logprobs, uniforms)
    assert bool(torch.isfinite(logprobs.gather(1, drawn[:, None])).all()), "a token without probability"
    expected = by_numpy(logprobs, uniforms)
    if vocabulary <= BLOCK:
        assert drawn.tolist() == expected
    else:  # sums of blocks are rounded otherwise: a number at the edge of two tokens may fall to either
        cumulative = logprobs.double().exp().cumsum(-1)
        cumulative /= cumulative[:, -1:].clone()
        for row, (token, other) in enumerate(zip(drawn.tolist(), expected, strict=True)):
            edge = cumulative[row, min(token, other)]
            assert token == other or abs(float(edge - uniforms[row])) < 1e-5


@pytest.mark.parametrize("vocabulary", [300, 3 * BLOCK + 7])
def test_log_probabilities_are_those_of_the_tokens_and_greedy_rows_take_the_likeliest(vocabulary: int) -> None:
    logits = logprobs_of(8, vocabulary, 1) + torch.arange(8.0)[:, None]  # a logit is known up to a constant
    expected = torch.log_softmax(logits.double(), -1)
    uniforms = torch.rand(8, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    greedy = torch.arange(8) % 2 == 0
    tokens, logprobs = Drawing()(logits, uniforms, greedy)
    assert tokens[greedy].tolist() == logits.argmax(-1)[greedy].tolist() != tokens[~greedy].tolist()
    assert torch.allclose(logprobs.double(), expected.gather(1, tokens[:, None])[:, 0], atol=1e-5)


def test_memory_that_is_kept_changes_nothing() -> None:
    drawing, fresh = Drawing(), Drawing()
    for rows, vocabulary in ((8, 3 * BLOCK), (2, 2 * BLOCK + 1), (5, 3 * BLOCK), (9, 4 * BLOCK)):
        logits = logprobs_of(rows, vocabulary, rows)
        uniforms = torch.rand(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(rows))
        rest = torch.zeros(rows, dtype=torch.bool)
        for kept, new in zip(drawing(logits, uniforms, rest), fresh(logits, uniforms, rest), strict=True):
            assert torch.equal(kept, new)
        fresh = Drawing()


@pytest.mark.parametrize("vocabulary", [300, 3 * BLOCK + 7])
def test_the_ends_of_the_unit_interval_give_the_first_and_the_last_token_that_has_a_probability(
    vocabulary: int,
) -> None:
    logprobs = torch.full((1, vocabulary), -torch.inf)
    logprobs[0, [5, vocabulary - 9]] = float(np.log(0.5))
    for uniform, token in (
        (0.0, 5),
        (0.4999, 5),
        (0.5001, vocabulary - 9),
        (float(np.nextafter(1, 0)), vocabulary - 9),
    ):
        assert draw(logprobs, torch.tensor([uniform], dtype=torch.float64)).tolist() == [token]


@pytest.mark.parametrize("vocabulary", [300, 3 * BLOCK])
def test_a_row_without_probabilities_is_refused(vocabulary: int) -> None:
    for broken in (torch.nan, -torch.inf):
        with pytest.raises(FloatingPointError, match="not finite, or all zero"):
            draw(torch.full((2, vocabulary), broken), torch.tensor([0.1, 0.9], dtype=torch.float64))


def test_tokens_are_as_frequent_as_they_are_probable() -> None:
    vocabulary, draws = 2 * BLOCK, 4000
    logits = torch.full((vocabulary,), -torch.inf)
    logits[[3, 4000, 4096, 8191]] = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    uniforms = torch.rand(draws, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    drawn = torch.cat([draw(logits.expand(500, -1), part) for part in uniforms.split(500)])
    for token, share in ((3, 0.1), (4000, 0.2), (4096, 0.3), (8191, 0.4)):
        assert abs(float((drawn == token).double().mean()) - share) < 4 * (share * (1 - share) / draws) ** 0.5
