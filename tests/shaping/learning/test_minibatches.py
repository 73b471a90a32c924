"""Minibatches: shuffled, by seed; all of them are compared with the sampler before the first step."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner, LearnerError
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample

COUNT = 8


@pytest.fixture
def sampled(policy: Policy, make_sample: Callable[..., Sample]) -> Callable[..., list[Sample]]:
    """On-policy samples, of which one disagrees with the learner."""

    def make(wrong: int | None = None, **changes: Any) -> list[Sample]:
        found = []
        for n in range(COUNT):
            draft = make_sample(16, n, on_policy=True, **changes)
            old = np.zeros(16, np.float32)
            with torch.no_grad():
                old[draft.mask] = policy.logprobs(pack([draft], 16)[0])[0].numpy()
            old[draft.mask] -= 2.0 * (n == wrong)
            found.append(make_sample(16, n, on_policy=True, old_logprobs=old, **changes))
        return found

    return make


def learner_of(policy: Policy, **options: Any) -> Learner:
    seed = options.pop("seed", 0)
    return Learner(
        Policy(copy.deepcopy(policy.model), policy.tokenizer), LearnerConfig(**{"lr": 1e-3, **options}), seed=seed
    )


@pytest.mark.parametrize("minibatches", [1, 4])
@pytest.mark.parametrize("ratio", ["sampler", "recomputed"])
@pytest.mark.parametrize("wrong", range(0, COUNT, 3))
def test_a_mismatch_in_any_minibatch_is_refused_before_the_first_step(
    policy: Policy, sampled: Callable[..., list[Sample]], wrong: int, ratio: str, minibatches: int
) -> None:
    learner = learner_of(policy, minibatches=minibatches)
    with pytest.raises(LearnerError, match=r"differ from the learner's by KL"):
        learner.update(sampled(wrong, ratio=ratio))
    before = policy.model.state_dict()
    assert all(torch.equal(tensor, before[n]) for n, tensor in learner.policy.model.state_dict().items())


def test_the_mismatch_of_an_update_is_that_of_all_its_tokens(
    policy: Policy, sampled: Callable[..., list[Sample]]
) -> None:
    one, four = (
        learner_of(policy, minibatches=n, max_mismatch_kl=1e9).update(sampled(5))["mismatch_kl"] for n in (1, 4)
    )
    assert one == pytest.approx(four, rel=1e-4) and one > 0.1


def test_minibatches_are_shuffled_by_seed_version_and_pass(
    policy: Policy, sampled: Callable[..., list[Sample]], monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = sampled()

    def orders(seed: int, minibatches: int, version: int = 0) -> list[list[int]]:
        learner, seen = learner_of(policy, minibatches=minibatches, epochs=2, seed=seed), []
        learner.version = version
        original = learner._step

        def step(batches: Any, *args: Any, **keywords: Any) -> float | None:
            seen.append(
                sorted(next(i for i, s in enumerate(samples) if s is one) for b in batches for one in b.samples)
            )
            return original(batches, *args, **keywords)

        monkeypatch.setattr(learner, "_step", step)
        learner.update(samples)
        return seen

    first = orders(0, 2)
    assert first == orders(0, 2), "a resumed run draws the same"
    assert all(sorted(first[k] + first[k + 1]) == list(range(COUNT)) for k in (0, 2)), "every sample once in a pass"
    others = [first[2:], orders(1, 2)[:2], orders(0, 2, version=1)[:2], [[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert all(first[:2] != other for other in others)
    assert orders(0, 1) == [list(range(COUNT))] * 2
