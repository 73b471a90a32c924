"""The KL is taken to the policy as it was when training began, whatever adapters it had then."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample

KEPT = AdapterSpec("kept", "kept", rank=4)
QUARANTINE = AdapterSpec("quarantine", "quarantine", rank=2)
TRAIT = AdapterSpec("trait", "frozen", rank=2)
CASES: dict[str, tuple[Sequence[AdapterSpec], set[str]]] = {
    "new adapters": ([KEPT, QUARANTINE], set()),
    "a frozen adapter below the base's training": ([TRAIT], {"trait"}),
    "a frozen adapter below a new one": ([KEPT, TRAIT], {"trait"}),
    "a warm-started adapter": ([KEPT], {"kept"}),
    "all of them": ([KEPT, QUARANTINE, TRAIT], {"kept", "quarantine", "trait"}),
}
"""Adapters, and which of them have an effect before training."""
MakeSample = Callable[..., Sample]


def make(make_policy: Callable[..., Policy], case: str) -> Policy:
    specs, warm = CASES[case]
    own = make_policy()
    torch.manual_seed(0)
    policy = Policy(own.model, own.tokenizer, adapters=specs)
    with torch.no_grad():
        for name, parameter in policy.model.named_parameters():
            if ".lora_" in name and name.split(".")[-2] in warm:
                parameter.normal_(0, 0.2)
    return policy


def update(learner: Learner, make_sample: MakeSample, n: int = 0) -> dict[str, float]:
    return learner.update([make_sample(16, 10 * n + k, ratio="none") for k in range(3)])


OPTIONS: dict[str, Any] = {"lr": 1e-2, "kl": 0.1, "max_mismatch_kl": 1e9}


@pytest.mark.parametrize("case", CASES)
def test_before_training_the_policy_is_its_own_reference_and_stays_it(
    make_policy: Callable[..., Policy], make_sample: MakeSample, case: str
) -> None:
    """Without the adapters in place, the first KL was .02."""
    policy = make(make_policy, case)
    batch = pack([make_sample(16, 77)], 16)[0]
    with policy.phase("training"):
        start = policy.logprobs(batch)[0].detach()
    learner = Learner(policy, LearnerConfig(**OPTIONS))
    assert update(learner, make_sample)["kl"] == 0.0
    assert update(learner, make_sample, 1)["kl"] > 0
    assert learner._reference is not None
    with policy.phase("training"):
        assert torch.equal(learner._reference.logprobs(batch), start)
        assert not torch.allclose(policy.logprobs(batch)[0], start)


def test_its_pass_leaves_the_policys_gradient_alone(
    make_policy: Callable[..., Policy], make_sample: MakeSample
) -> None:
    """Weights are exchanged between the policy's forward and backward pass."""

    def gradient(between: bool) -> dict[str, Tensor]:
        policy = make(make_policy, "all of them")
        learner = Learner(policy, LearnerConfig(**OPTIONS))
        update(learner, make_sample)
        batch = pack([make_sample(16, 5)], 16)[0]
        with policy.phase("training"):
            total = policy.logprobs(batch)[0].sum()
            if between:
                assert learner._reference is not None
                learner._reference.logprobs(batch)
            policy.model.zero_grad()
            total.backward()
        return {n: p.grad for n, p in policy.model.named_parameters() if p.grad is not None}

    plain, after = gradient(False), gradient(True)
    assert plain and all(torch.equal(tensor, after[name]) for name, tensor in plain.items())


@pytest.mark.parametrize(
    "case", ["a warm-started adapter", "all of them", "a frozen adapter below the base's training"]
)
def test_a_resumed_run_keeps_its_reference(
    make_policy: Callable[..., Policy], make_sample: MakeSample, case: str
) -> None:
    whole = Learner(make(make_policy, case), LearnerConfig(**OPTIONS))
    update(whole, make_sample)
    resumed = Learner(make(make_policy, case), LearnerConfig(**OPTIONS))
    resumed.load_state_dict(*copy.deepcopy(whole.state_dict()))
    assert update(resumed, make_sample, 1) == update(whole, make_sample, 1)
