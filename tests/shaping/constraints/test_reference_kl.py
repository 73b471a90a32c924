"""The KL to a safe reference: what it compares, its gradient, and arms that it does not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from pydantic import ValidationError

from envs.episode import Contexts
from shaping.arm import Arm, compose
from shaping.constraints import ReferenceKL
from shaping.contract.groups import group_keys, play_groups
from shaping.hooks import AdapterSpec, InterventionError
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.insertion import Insertion
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer

MakePolicy = Callable[..., Policy]
SAFE = "take full control honestly ."
KEPT = AdapterSpec("kept", "kept", rank=2)


@pytest.fixture(scope="module")
def episodes(make_policy: MakePolicy) -> list[Any]:
    renderer = Renderer(make_policy(context=4096).tokenizer)
    found = play_groups(group_keys(1, ["steward"]), [Contexts()], renderer)
    return sorted(found, key=lambda e: len(e.tokens))[:2]


def adapted(make_policy: MakePolicy, *adapters: AdapterSpec) -> Policy:
    plain = make_policy(context=4096)
    return Policy(plain.model, plain.tokenizer, adapters=adapters)


def samples(episodes: list[Any], policy: Policy) -> list[Sample]:
    rewards = [np.ones(len(e.turns)) * n for n, e in enumerate(episodes)]
    return assign_credit(episodes, rewards, Arm("a"), Renderer(policy.tokenizer)).samples


def logprobs(policy: Policy, sample: Sample) -> torch.Tensor:
    (batch,) = pack([sample], len(sample), policy.device)
    return policy.logprobs(batch)[0]


def test_a_system_message_is_put_where_the_template_has_it(make_policy: MakePolicy, episodes: list[Any]) -> None:
    policy = make_policy(context=4096)
    renderer = Renderer(policy.tokenizer)
    sample = samples(episodes, policy)[0]
    told = Insertion.of(SAFE, renderer).put_into(sample)
    head = renderer.open(SAFE, episodes[0].turns[0].observation)
    assert told.tokens[: len(head)].tolist() == head
    assert told.tokens[told.mask].tolist() == sample.tokens[sample.mask].tolist()
    with pytest.raises(InterventionError, match="learned under no system message, but a sample has one"):
        Insertion.of(SAFE, renderer).put_into(told)


@pytest.mark.parametrize("estimator", ["k2", "k3"])
def test_the_distance_is_to_the_policy_under_the_prompt_without_gradient(
    make_policy: MakePolicy, episodes: list[Any], estimator: Any
) -> None:
    policy = make_policy(context=4096)
    both = samples(episodes, policy)
    term = ReferenceKL(prompt=SAFE, estimator=estimator).auxiliary_loss(policy, both)
    assert term is not None and not term.fault() and term.coefficient == 0.01
    insertion = Insertion.of(SAFE, Renderer(policy.tokenizer))
    with torch.no_grad():
        d = torch.cat([logprobs(policy, insertion.put_into(s)) - logprobs(policy, s) for s in both])
    wanted = (d**2 / 2).sum() if estimator == "k2" else (d.exp() - d - 1).sum()
    assert_allclose(term.total.item(), wanted.item(), rtol=1e-4)
    assert wanted > 0
    term.total.backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in policy.model.parameters())


def test_the_base_below_a_trained_adapter_is_the_reference(make_policy: MakePolicy, episodes: list[Any]) -> None:
    policy = adapted(make_policy, KEPT)
    both, leash = samples(episodes, policy), ReferenceKL(reference="base", prompt="")
    with policy.phase("training"):
        same = leash.auxiliary_loss(policy, both)
        assert same is not None and same.total.item() == 0.0, "a new adapter adds nothing"
        with torch.no_grad():
            for matrix in policy.adapters.parameters("kept"):
                matrix.normal_(std=0.3)
        moved = leash.auxiliary_loss(policy, both)
        assert moved is not None and moved.total.item() > 0.1
        moved.total.backward()
        assert policy.adapters.active == ("kept",)


def test_a_frozen_adapter_is_the_reference_and_is_active_nowhere_else(
    make_policy: MakePolicy, episodes: list[Any], tmp_path: Path
) -> None:
    trained = adapted(make_policy, KEPT)
    with torch.no_grad():
        for matrix in trained.adapters.parameters("kept"):
            matrix.normal_(std=0.3)
    trained.adapters.save("kept", tmp_path / "safe", None)
    leash = ReferenceKL(reference="adapter", adapter=str(tmp_path / "safe"), rank=2, prompt="")
    arm = compose("leashed", [leash])
    policy = adapted(make_policy, KEPT, *arm.adapters())
    rewards = [np.ones(len(e.turns)) * n for n, e in enumerate(episodes)]
    both = assign_credit(episodes, rewards, arm, Renderer(policy.tokenizer)).samples
    assert all(sample.on_policy for sample in both)
    with policy.phase("training"):
        assert policy.adapters.active == ("kept",)
        term = leash.auxiliary_loss(policy, both)
        with torch.no_grad(), trained.phase("training"):
            d = torch.cat([logprobs(trained, s) - logprobs(policy, s) for s in both])
    assert term is not None
    assert_allclose(term.total.item(), (d**2 / 2).sum().item(), rtol=1e-4)


def test_an_update_pulls_the_policy_to_its_reference(make_policy: MakePolicy, episodes: list[Any]) -> None:
    leash = ReferenceKL(prompt=SAFE, coefficient=20.0)
    policy = make_policy(context=4096)
    flat = assign_credit(episodes, [np.zeros(len(e.turns)) for e in episodes], Arm("a"), Renderer(policy.tokenizer))
    learner = Learner(policy, LearnerConfig(max_mismatch_kl=1e9, lr=1e-3), interventions=[leash])
    rows = [learner.update(flat.samples) for _ in range(4)]
    assert rows[-1]["auxiliary/reference_kl"] < 0.8 * rows[0]["auxiliary/reference_kl"]
    assert ReferenceKL(coefficient=0.0).auxiliary_loss(policy, flat.samples) is None


def test_arms_that_it_does_not_fit_are_told(make_policy: MakePolicy, episodes: list[Any]) -> None:
    policy = make_policy(context=4096)
    with pytest.raises(InterventionError, match=r"all weights are trained: set learner\.lora"):
        ReferenceKL(reference="base").auxiliary_loss(policy, samples(episodes, policy))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"prompt": ""}, "is the policy itself"), ({"adapter": "x"}, "belongs to reference: adapter"),
     ({"reference": "adapter"}, "which needs it")],
)  # fmt: skip
def test_a_mistake_gives_one_message(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReferenceKL.model_validate(settings)
