"""Packing changes neither log-probs nor gradients, loses no token and keeps its budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rounding import assert_same_but_rounding

from shaping.learning.losses import logprobs as logprobs_module
from shaping.learning.losses.logprobs import token_logprobs
from shaping.learning.losses.losses import policy_gradient
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import assign, pack, spread
from shaping.learning.samples.sample import Sample
from shaping.models.forward import hidden_states

MakeSample = Callable[..., Sample]
LENGTHS = (12, 5, 30, 2, 17, 9)


@given(lengths=st.lists(st.integers(1, 50), max_size=30), slack=st.integers(0, 60))
def test_every_sample_goes_into_one_batch_and_no_batch_exceeds_the_budget(lengths: list[int], slack: int) -> None:
    budget = max(lengths, default=1) + slack
    bins = assign(lengths, budget)
    assert sorted(i for members in bins for i in members) == list(range(len(lengths)))
    assert all(0 < sum(lengths[i] for i in members) <= budget for members in bins)
    for a, b in pairwise(bins):
        assert sum(lengths[i] for i in a) + lengths[b[-1]] > budget, "the last of a later batch had room in an earlier"


def test_a_sample_longer_than_the_budget_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"51 tokens exceeds learner\.token_budget=50: raise the budget or shorten"):
        assign([3, 51, 4], 50)


@given(lengths=st.lists(st.integers(2, 40), min_size=1, max_size=12), budget=st.integers(40, 120))
def test_every_token_in_the_loss_is_there_once_with_its_own_streams(
    make_sample: MakeSample, lengths: list[int], budget: int
) -> None:
    samples = [make_sample(n, seed) for seed, n in enumerate(lengths)]
    batches = pack(samples, budget)
    assert all(b.ids.shape[1] <= budget for b in batches)
    assert sum(b.ids.shape[1] for b in batches) == sum(lengths)
    expected = Counter(
        (int(s.tokens[p]), int(s.tokens[p - 1]), float(s.advantage[p]), int(p))
        for s in samples
        for p in np.flatnonzero(s.mask)
    )
    found = Counter(
        (int(target), int(b.ids[0, row]), float(advantage), int(b.positions[0, row]) + 1)
        for b in batches
        for target, row, advantage in zip(b.targets, b.rows, b.advantage, strict=True)
    )
    assert found == expected


def test_nothing_predicts_the_first_token_of_a_sequence(make_sample: MakeSample) -> None:
    samples = [make_sample(6, n, mask=np.ones(6, bool)) for n in range(3)]
    (batch,) = pack(samples, 100)
    assert batch.loss_tokens == 15 and samples[0].mask[0], "and the samples themselves are left as they were"
    assert 0 not in (batch.positions[0, batch.rows] + 1).tolist()


@given(
    kinds=st.lists(
        st.sampled_from([("sampler", 1.0), ("sampler", 0.0), ("none", 1.0), ("recomputed", 0.5)]), max_size=9
    )
)
def test_a_batch_has_one_ratio_mode_and_one_gate(make_sample: MakeSample, kinds: list[tuple[str, float]]) -> None:
    samples = [make_sample(8, n, ratio=ratio, kept_gate=gate) for n, (ratio, gate) in enumerate(kinds)]
    batches = pack(samples, 1000)
    assert len(batches) == len(set(kinds))
    for batch in batches:
        assert {(s.ratio, s.kept_gate) for s in batch.samples} == {(batch.ratio, batch.kept_gate)}


def one_by_one(policy: Policy, sample: Sample) -> torch.Tensor:
    """Log-probs from a plain forward of one sequence, with its mask applied to the logits."""
    logits = policy.model(torch.tensor(sample.tokens)[None]).logits[0].float() / policy.temperature
    for position, token in sample.masked_tokens:
        logits[position - 1, token] = -torch.inf
    positions = torch.from_numpy(np.flatnonzero(sample.mask))
    return logits.log_softmax(-1)[positions - 1, torch.tensor(sample.tokens)[positions]]


@pytest.mark.parametrize("masked_tokens", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_packed_logprobs_are_those_of_each_sequence_alone(
    make_policy: Callable[..., Policy], make_sample: MakeSample, masked_tokens: bool, temperature: float
) -> None:
    policy = make_policy(temperature=temperature)
    samples = [make_sample(n, seed, masked_tokens) for seed, n in enumerate(LENGTHS)]
    with torch.no_grad():
        alone = {id(s): one_by_one(policy, s) for s in samples}
        for batch in pack(samples, 40):
            packed, entropy = policy.logprobs(batch)
            expected = torch.cat([alone[id(s)] for s in batch.samples])
            assert_same_but_rounding([packed], [expected])
            assert torch.isfinite(entropy).all() and (entropy > 0).all()


def test_entropy_is_that_of_the_masked_distribution(policy: Policy, make_sample: MakeSample) -> None:
    sample = make_sample(12, masked_tokens=True)
    (batch,) = pack([sample], 12)
    with torch.no_grad():
        _, entropy = policy.logprobs(batch)
        logits = policy.model(batch.ids).logits[0, batch.rows].float()
    logits[batch.masked_tokens[:, 0], batch.masked_tokens[:, 1]] = -torch.inf
    torch.testing.assert_close(entropy, torch.distributions.Categorical(logits=logits).entropy(), atol=1e-5, rtol=0)


def gradients(policy: Policy, samples: list[Sample], budget: int) -> list[torch.Tensor]:
    policy.model.zero_grad()
    for batch in pack(samples, budget):
        logprobs, _ = policy.logprobs(batch)
        policy_gradient(
            logprobs, batch.old, batch.advantage, batch.weight, ratio=batch.ratio, clip_low=0.2, clip_high=0.2
        ).backward()
    return [p.grad.clone() for p in policy.model.parameters()]


def test_the_gradient_is_the_same_for_every_budget_and_chunk(
    make_policy: Callable[..., Policy], make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = make_policy()
    samples = [make_sample(n, seed, ratio="none") for seed, n in enumerate(LENGTHS)]
    reference = gradients(policy, samples, 1000)
    assert max(float(g.abs().max()) for g in reference) > 1e-2
    for budget, chunk in [(30, 2048), (45, 2048), (1000, 1), (1000, 7), (31, 3)]:
        monkeypatch.setattr(token_logprobs, "__kwdefaults__", {"temperature": 1.0, "chunk": chunk})
        assert_same_but_rounding(gradients(policy, samples, budget), reference)


@pytest.mark.parametrize("written_out", [True, False], ids=["plain head", "any head"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logits_of_all_tokens_never_exist_at_once(
    policy: Policy, make_sample: MakeSample, monkeypatch: pytest.MonkeyPatch, written_out: bool, temperature: float
) -> None:
    rows: list[int] = []

    def spied(name: str, rows_of: int) -> None:
        original = getattr(logprobs_module, name)

        def spy(*args: Any) -> Any:
            rows.append(args[rows_of].shape[0])
            return original(*args)

        monkeypatch.setattr(logprobs_module, name, spy)

    spied("_log_distribution", 0) if written_out else spied("head_logits", 1)
    (batch,) = pack([make_sample(60, 1, masked_tokens=True), make_sample(60, 2)], 120)
    weights = torch.linspace(-1, 1, batch.loss_tokens)

    def run(chunk: int) -> list[torch.Tensor]:
        policy.model.zero_grad()
        hidden = hidden_states(policy.model, batch.ids, batch.positions, batch.plan)[0, batch.rows]
        found, entropy = token_logprobs(
            policy.model,
            hidden,
            batch.targets,
            batch.masked_tokens,
            chunk=chunk,
            temperature=temperature,
            entropy_gradient=not written_out,
        )
        before = len(rows)
        (found * weights).sum().backward()
        assert len(rows) == (2 * before if chunk < len(found) else before), "computed again in backward"
        gradients = [p.grad.clone() for p in policy.model.parameters() if p.grad is not None]
        return [found.detach(), entropy.detach(), *gradients]

    chunked = run(16)
    assert max(rows) == 16 and sum(rows) == 2 * batch.loss_tokens
    assert_same_but_rounding(chunked, run(10_000))
    policy.model.zero_grad()


def test_a_batch_without_loss_tokens_has_no_logprobs(policy: Policy, make_sample: MakeSample) -> None:
    (batch,) = pack([make_sample(5, mask=np.zeros(5, bool))], 5)
    logprobs, entropy = policy.logprobs(batch)
    assert logprobs.shape == entropy.shape == (0,)


def test_a_model_that_pads_counts_padding_in_the_budget() -> None:
    lengths = [10, 3, 3, 3, 9]
    packed, padded = assign(lengths, 20), assign(lengths, 20, padded=True)
    assert packed == [[0, 4], [1, 2, 3]] and padded == [[0, 4], [1, 2, 3]]
    assert assign(lengths, 29) == [[0, 4, 1, 2, 3]] and assign(lengths, 29, padded=True) == [[0, 4], [1, 2, 3]]
    for ranks in (2, 3, 4):
        bins = spread(lengths, 29, ranks, padded=True)
        assert sorted(i for members in bins for i in members) == list(range(5))
        assert all(len(members) * max(lengths[i] for i in members) <= 29 for members in bins)
        assert len(bins) % ranks == 0
