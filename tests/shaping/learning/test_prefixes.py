"""Samples that begin alike share the computation of their prefix; nothing that is learned changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gradients import copied
from hypothesis import given
from hypothesis import strategies as st
from rounding import assert_same_but_rounding

from shaping.hooks import ActivationEdit, AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.prefixes import relatives
from shaping.learning.samples.sample import CriticTargets, Sample
from shaping.models.attention import Packed
from shaping.models.forward import layout_of
from shaping.models.shared_prefix import SharedPrefixes

MakeSample = Callable[..., Sample]
MakePolicy = Callable[..., Policy]
ADAPTERS = (AdapterSpec("kept", "kept", rank=4), AdapterSpec("quarantine", "quarantine", rank=2))
EDITS = (
    ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 1.5),
    ActivationEdit(1, "cap", np.ones(32, np.float32), 0.2),
)
PPO = {"algorithm": "ppo", "advantage_level": "token"}


@pytest.fixture(scope="session")
def make_group(make_sample: MakeSample) -> Callable[..., list[Sample]]:
    """Samples that agree in `prefix` tokens, and then in none; the first own token of each is in the loss."""

    def make(prefix: int, *own: int, seed: int = 0, **changes: Any) -> list[Sample]:
        briefing = np.random.default_rng(1000 + seed).integers(0, 250, prefix)
        group = []
        for number, length in enumerate(own):
            sample = make_sample(prefix + length, 10 * seed + number, masked_tokens=True, **changes)
            tokens, mask = sample.tokens.copy(), sample.mask.copy()
            tokens[:prefix], tokens[prefix], mask[:prefix], mask[prefix] = briefing, number, False, True
            masked_tokens = sample.masked_tokens[mask[sample.masked_tokens[:, 0]]]
            group.append(replace(sample, tokens=tokens, mask=mask, masked_tokens=masked_tokens))
        return group

    return make


def valued(samples: list[Sample]) -> list[Sample]:
    rng = np.random.default_rng(0)
    streams = [rng.normal(size=(2, len(s), 2)).astype(np.float32) for s in samples]
    return [replace(s, critic=CriticTargets(*both, s.mask)) for s, both in zip(samples, streams, strict=True)]


def families(samples: list[Sample]) -> list[tuple[int, tuple[int, ...]]]:
    """(tokens of the common prefix, members) of every family."""
    return [(each.family.prefix, each.members) for each in relatives(samples)]


def test_a_prefix_ends_where_samples_differ_or_before_the_first_loss_token(make_group: Any) -> None:
    a, b, c = make_group(20, 9, 7, 5)
    assert families([a, b, c]) == [(20, (0, 1, 2))]
    other = make_group(20, 9, seed=1)[0]
    assert families([a, other, b]) == [(20, (0, 2)), (0, (1,))]
    early = b.mask.copy()
    early[12] = True
    assert families([a, replace(b, mask=early)]) == [(12, (0, 1))]
    assert families([a, replace(b, mask=early), c]) == [(20, (0, 2)), (0, (1,))], "more is gained without the second"
    assert families([a, a]) == [(20, (0, 1))]
    silent = replace(b, mask=np.zeros(len(b), bool))
    assert families([silent, silent]) == [(26, (0, 1))], "each keeps a token of its own"
    for prefix, own in ((8, 9), (12, 60)):
        assert families(make_group(prefix, own, own)) == [(0, (0,)), (0, (1,))], "sharing costs more than it gains"


def test_the_families_are_those_that_gain_the_most(make_group: Any) -> None:
    def within(common: int, sample: Sample) -> Sample:
        tokens = sample.tokens.copy()
        tokens[:common] = 7
        return replace(sample, tokens=tokens)

    one, two = make_group(40, 9, 9, 9), make_group(40, 9, 9, 9, seed=1)
    assert families([within(10, s) for s in (*one, *two)]) == [(40, (0, 1, 2)), (40, (3, 4, 5))]
    assert families([within(38, s) for s in (*one, *two)]) == [(38, (0, 1, 2, 3, 4, 5))]


@given(
    groups=st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(2, 20), min_size=1, max_size=5)), max_size=5),
    slack=st.integers(0, 60),
    ranks=st.integers(1, 3),
)
def test_every_sample_keeps_its_tokens_positions_and_streams_within_the_budget(
    make_group: Any, groups: list[tuple[int, list[int]]], slack: int, ranks: int
) -> None:
    samples = [s for seed, (prefix, own) in enumerate(groups) for s in make_group(prefix, *own, seed=seed)]
    budget = max(map(len, samples), default=1) + slack
    found, plain = pack(samples, budget, ranks=ranks, shared=True), pack(samples, budget)
    assert sorted(id(s) for b in found for s in b.samples) == sorted(map(id, samples))
    assert sum(b.ids.numel() for b in found) <= sum(map(len, samples)) and all(b.ids.numel() <= budget for b in found)
    streams = ("targets", "old", "advantage", "weight")

    def contents(batches: list[Any]) -> list[Any]:
        tokens = [
            (b.samples[int(n)].tokens.tolist(), int(b.ids[0, row]), int(b.positions[0, row]), *of_token)
            for b in batches
            for n, row, *of_token in zip(
                b.sequence, b.rows, *(getattr(b, name).tolist() for name in streams), strict=True
            )
        ]
        ends = [
            (int(b.ids[0, end]), int(b.positions[0, end]), len(s))
            for b in batches
            for s, end in zip(b.samples, b.ends, strict=True)
        ]
        masked = [(float(b.old[row]), int(b.targets[row]), t) for b in batches for row, t in b.masked_tokens.tolist()]
        return [sorted(tokens), sorted(ends), sorted(masked)]

    assert contents(found) == contents(plain)


def test_what_does_not_begin_alike_is_packed_as_before(make_sample: MakeSample) -> None:
    samples = [make_sample(n, n) for n in (30, 12, 25, 7)]
    for plain, shared in zip(pack(samples, 50), pack(samples, 50, shared=True), strict=True):
        assert isinstance(shared.plan, Packed) and shared.plan == plain.plan
        assert torch.equal(shared.ids, plain.ids) and torch.equal(shared.rows, plain.rows)


def test_a_group_stays_together_unless_it_exceeds_the_budget_or_ranks_would_wait(make_group: Any) -> None:
    samples = [s for seed in range(2) for s in make_group(100, *[20] * 4, seed=seed)]

    def tokens(budget: int, ranks: int, given: list[Sample] = samples) -> list[int]:
        return [b.ids.numel() for b in pack(given, budget, ranks=ranks, shared=True)]

    assert tokens(360, 1) == [360] and tokens(359, 1) == [180, 180]
    assert tokens(179, 1) == [140] * 4, "two halves each"
    assert tokens(360, 2) == [180, 180] and tokens(360, 2, samples[:4]) == [140, 140], "no rank waits for the other"
    assert tokens(120, 1, samples[:2]) == [120, 120]
    with pytest.raises(ValueError, match=r"an episode of 120 tokens exceeds learner\.token_budget=119"):
        tokens(119, 1)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "weights": ({}, {}, {}),
    "everything": ({"kl": 0.3, "entropy_coef": 0.1, "activation_checkpointing": True}, {}, {"edits": EDITS}),
    "adapters": ({"kl": 0.3}, {"adapters": ADAPTERS}, {"edits": EDITS}),
    "sequences": ({"ratio_level": "sequence", "loss_aggregation": "sequence"}, {}, {}),
    "critic": ({**PPO, "kl": 0.1}, {"critics": 2}, {"edits": EDITS}),
    "warm-up": ({**PPO, "critic": {"warmup": 1}}, {"critics": 2}, {}),
    "passes": ({"epochs": 2, "lr": 1e-4}, {}, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_metrics_and_values_are_those_of_samples_one_by_one(
    make_policy: MakePolicy, make_group: Any, case: str
) -> None:
    settings, kind, others = CASES[case]
    torch.manual_seed(0)
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, **kind)
    ratio = {"ratio": "recomputed", "kept_gate": 0.5} if case in ("adapters", "passes") else {}
    samples = [*make_group(30, 9, 40, 12, 5, **ratio), *make_group(11, 25, 14, seed=1, **ratio)]
    samples = valued(samples) if "critics" in kind else samples
    found = []
    for shared in (True, False):
        config = {"max_grad_norm": 1e9, "max_mismatch_kl": 1e9, "shared_prefixes": shared, **settings}
        learner = Learner(copied(policy), LearnerConfig(**config), **others)
        assert {type(b.plan) for b in learner._packed(samples)} == {SharedPrefixes if shared else Packed}
        row = learner.update(samples)
        trained = [p for parameters in learner.policy.groups().values() for p in parameters]
        if case in ("warm-up", "passes"):  # one has no gradient, the other a first step
            learned = [p.detach() for p in trained]
        else:
            learned = [p.grad for p in trained if p.grad is not None]
        values = learner.values(samples) if "critics" in kind else []
        found.append((learned, row, [v for both in values for v in both]))
    (ours, row, values), (theirs, plain, expected) = found
    size = max(float(tensor.norm()) for tensor in theirs)
    assert size > 1e-3, "a comparison of zeros would prove nothing"
    assert all(float((a - b).norm()) <= 1e-6 * size for a, b in zip(ours, theirs, strict=True))
    assert_same_but_rounding(ours, theirs)
    assert row == pytest.approx(plain, rel=1e-4, abs=1e-6)
    for mine, other in zip(values, expected, strict=True):
        np.testing.assert_allclose(mine, other, atol=1e-5)


def test_a_model_that_does_not_agree_computes_every_prefix(make_policy: MakePolicy, make_group: Any) -> None:
    policy = make_policy()
    policy.model._shaping_layout = replace(layout_of(policy.model), shares=False)
    learner = Learner(policy, LearnerConfig())
    assert all(isinstance(b.plan, Packed) for b in learner._packed(make_group(30, 9, 9)))
