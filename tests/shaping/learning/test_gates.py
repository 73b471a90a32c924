"""Gates multiply the gradients that an episode leaves on a group's parameters, and nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import CriticTargets, Sample
from shaping.learning.steps.optimizer import GatedOptimizer

MakeSample = Callable[..., Sample]
Gradients = dict[str, Tensor]
ADAPTERS = (AdapterSpec("kept", "kept", rank=4), AdapterSpec("quarantine", "quarantine", rank=4))
TOLERANCE: dict[str, Any] = {"atol": 1e-6, "rtol": 1e-4}


@pytest.fixture
def start(make_policy: Callable[..., Policy]) -> Policy:
    """Two adapters and a critic, all of which already do something, so that every gradient depends on all of them."""
    own = make_policy()
    torch.manual_seed(0)
    policy = Policy(own.model, own.tokenizer, adapters=ADAPTERS, critics=1)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameters in policy.groups().values():
            for p in parameters:
                p.add_(0.05 * torch.randn(p.shape, generator=generator))
    return policy


def learned(start: Policy, samples: Sequence[Sample], **options: Any) -> tuple[dict[str, Gradients], Policy]:
    """(gradients by group and name, the policy after one update) of a copy."""
    policy = copy.deepcopy(start)
    config = LearnerConfig(**{"max_grad_norm": 1e9, "max_mismatch_kl": 1e9, **options})
    Learner(policy, config).update(samples)
    modules: tuple[tuple[str, nn.Module | None], ...] = (("model", policy.model), ("value_head", policy.value_head))
    names = {p: f"{prefix}.{n}" for prefix, m in modules if m is not None for n, p in m.named_parameters()}
    found = {
        group: {names[p]: torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in parameters}
        for group, parameters in policy.groups().items()
    }
    return found, policy


def scaled(gradients: Gradients, factor: float) -> Gradients:
    return {name: factor * g for name, g in gradients.items()}


def total(*parts: Gradients) -> Gradients:
    return {name: sum((p[name] for p in parts[1:]), parts[0][name].clone()) for name in parts[0]}


def assert_close(a: Gradients, b: Gradients) -> None:
    size = max(float(g.abs().max()) for g in b.values())
    assert a.keys() == b.keys() and size > 1e-4, "a test of zeros would prove nothing"
    for name in a:
        torch.testing.assert_close(a[name] / size, b[name] / size, **TOLERANCE)


def assert_same(a: Gradients, b: Gradients) -> None:
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
    assert any(bool(g.any()) for g in a.values())


@pytest.fixture
def samples(make_sample: MakeSample) -> list[Sample]:
    return [make_sample(12 + 5 * n, n, ratio="none") for n in range(4)]


def gated(samples: Sequence[Sample], kept: float = 1.0, quarantine: float = 1.0) -> list[Sample]:
    return [replace(s, kept_gate=kept, quarantine_gate=quarantine) for s in samples]


@pytest.mark.parametrize("group", ["kept", "quarantine"])
def test_a_shut_gate_is_no_gradient_at_all_and_not_a_bit_of_movement(
    start: Policy, samples: list[Sample], group: str
) -> None:
    other = {"kept": "quarantine", "quarantine": "kept"}[group]
    found, after = learned(start, gated(samples, **{group: 0.0}), weight_decay=0.1)
    free, _ = learned(start, samples)
    assert not any(bool(g.any()) for g in found[group].values())
    before = start.groups()
    assert all(torch.equal(a, b) for a, b in zip(after.groups()[group], before[group], strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(after.groups()[other], before[other], strict=True))
    assert_same(found[other], free[other])
    assert all(p.requires_grad for p in after.groups()[group]), "shut for a micro-batch, not for good"


def test_an_open_gate_is_none(start: Policy, samples: list[Sample]) -> None:
    (ungated, a), (open_, b) = learned(start, samples), learned(start, gated(samples, 1.0, 1.0))
    for group in ("kept", "quarantine"):
        assert_same(open_[group], ungated[group])
        assert all(torch.equal(x, y) for x, y in zip(a.groups()[group], b.groups()[group], strict=True))


@pytest.mark.parametrize("gate", [0.5, 0.25])
def test_a_gate_between_scales_exactly(start: Policy, samples: list[Sample], gate: float) -> None:
    free, _ = learned(start, samples)
    found, _ = learned(start, gated(samples, kept=gate))
    assert_same(found["kept"], scaled(free["kept"], gate))
    assert_same(found["quarantine"], free["quarantine"])


GATES = ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.3, 0.7))


@pytest.mark.parametrize("budget", [64, 8192])
def test_micro_batches_with_different_gates_add_up_to_the_sum_of_gated_episodes(
    start: Policy, samples: list[Sample], budget: int
) -> None:
    mixed = [replace(s, kept_gate=k, quarantine_gate=q) for s, (k, q) in zip(samples, GATES, strict=True)]
    tokens = sum(int(s.mask.sum()) for s in samples)
    alone = [learned(start, [s])[0] for s in samples]
    shares = [int(s.mask.sum()) / tokens for s in samples]
    found, _ = learned(start, mixed, token_budget=budget)
    for group, position in (("kept", 0), ("quarantine", 1)):
        parts = [
            scaled(own[group], gates[position] * share) for own, gates, share in zip(alone, GATES, shares, strict=True)
        ]
        assert_close(found[group], total(*parts))


def test_without_a_kept_adapter_the_kept_gate_is_the_bases(
    make_policy: Callable[..., Policy], samples: list[Sample]
) -> None:
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, adapters=ADAPTERS[1:])
    found, after = learned(policy, gated(samples, kept=0.0))
    assert not any(bool(g.any()) for g in found["kept"].values()) and len(found["kept"]) > 10
    assert all(torch.equal(a, b) for a, b in zip(after.groups()["kept"], policy.groups()["kept"], strict=True))
    assert any(bool(g.any()) for g in found["quarantine"].values())


class ActivationGate(torch.autograd.Function):
    """What gating is *not*: the identity whose gradient is scaled on its way down."""

    @staticmethod
    def forward(context: Any, x: Tensor, gate: float) -> Tensor:
        context.gate = gate
        return x.view_as(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return context.gate * gradients[0], None


def by_activations(start: Policy, samples: Sequence[Sample], name: str, gate: float) -> Gradients:
    """Gradients of both adapters where one adapter's *outputs* are gated instead."""
    policy = copy.deepcopy(start)
    handles = [
        layer.lora_B[name].register_forward_hook(lambda _m, _a, output: ActivationGate.apply(output, gate))
        for layer in policy.model.modules()
        if hasattr(layer, "lora_B")
    ]
    (batch,) = pack(samples, 8192)
    logprobs, _ = policy.logprobs(batch)
    (-(logprobs * batch.advantage).sum() / batch.loss_tokens).backward()
    for handle in handles:
        handle.remove()
    return {f"model.{n}": p.grad for n, p in policy.model.named_parameters() if p.grad is not None}


def test_a_quarantine_gate_leaves_the_kept_gradient_alone_as_a_gate_on_activations_would_not(
    start: Policy, samples: list[Sample]
) -> None:
    free, _ = learned(start, samples)
    ours, _ = learned(start, gated(samples, quarantine=0.0))
    assert_same(ours["kept"], free["kept"])
    control = by_activations(start, samples, "quarantine", 1.0)
    assert_close({n: control[n] for n in free["kept"]}, free["kept"])
    theirs = by_activations(start, samples, "quarantine", 0.0)
    apart = max(float((theirs[n] - g).abs().max()) for n, g in free["kept"].items())
    assert apart > 1e-2 * max(float(g.abs().max()) for g in free["kept"].values())


def test_the_value_head_has_no_gate(start: Policy, samples: list[Sample]) -> None:
    valued = [with_critic(s) for s in samples]
    options = {"algorithm": "ppo", "advantage_level": "token"}
    free, _ = learned(start, valued, **options)
    shut, _ = learned(start, gated(valued, 0.0, 0.0), **options)
    assert_same(shut["value"], free["value"])
    for group in ("kept", "quarantine"):
        assert not any(bool(g.any()) for g in shut[group].values())
        assert any(bool(g.any()) for g in free[group].values())


def with_critic(sample: Sample, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed + len(sample))
    old, targets = rng.normal(size=(2, len(sample), 1)).astype(np.float32)
    return replace(sample, critic=CriticTargets(0.01 * old, targets, sample.mask))


def everything(make_sample: MakeSample) -> list[Sample]:
    """Every stream, ratio mode and gate there is."""
    found = []
    for n, (kept, quarantine) in enumerate(GATES * 2):
        rng = np.random.default_rng(n)
        sample = make_sample(10 + 4 * n, n, masked_tokens=n % 3 == 0, ratio=("sampler", "recomputed", "none")[n % 3])
        cloned = (rng.random(len(sample)) * sample.mask).astype(np.float32) if n % 2 else None
        sample = replace(with_critic(sample, n), imitation=cloned, kept_gate=kept, quarantine_gate=quarantine)
        found.append(replace(sample, kl=n != 3))
    companion = replace(found[3], policy=False, kl=True, imitation=None, critic=None)
    return [*found, replace(companion, advantage=0 * companion.advantage)]


@pytest.mark.parametrize("average", ["token", "sequence", "constant"])
@pytest.mark.parametrize("ratio_level", ["token", "sequence"])
def test_the_gradient_depends_on_no_budget(
    start: Policy, make_sample: MakeSample, average: str, ratio_level: str
) -> None:
    samples = everything(make_sample)
    options = {
        "algorithm": "ppo",
        "advantage_level": "token",
        "kl": 0.3,
        "entropy_coef": 0.1,
        "loss_aggregation": average,
        "ratio_level": ratio_level,
    }
    large, _ = learned(start, samples, token_budget=8192, **options)
    for budget in (38, 60):
        small, _ = learned(start, samples, token_budget=budget, **options)
        for group in ("kept", "quarantine", "value"):
            assert_close(small[group], large[group])


@pytest.mark.parametrize("freeze", [True, False])
def test_what_a_shut_gate_reaches_is_not_stepped_at_all(freeze: bool) -> None:
    """A gradient of zeros would still be a step, of weight decay and of Adam's momentum."""
    shut, open_ = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = GatedOptimizer({"kept": [shut], "quarantine": [open_]}, lr=0.1, weight_decay=0.5)
    with optimizer.gated({"kept": 0.0}, freeze=freeze):
        assert shut.requires_grad != freeze
        (shut * open_).sum().backward()
    assert list(optimizer.gradients()) == [open_]
    optimizer.norm(1e9)
    optimizer.step()
    assert torch.equal(shut, torch.ones(3)) and bool((open_ < 1).all())


def test_an_optimiser_leaves_no_hook_and_no_frozen_parameter_behind_an_error() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = GatedOptimizer({"kept": [weight]}, lr=0.1)

    def fails() -> None:
        with optimizer.gated({"kept": 0.0}):
            assert not weight.requires_grad
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fails()
    assert weight.requires_grad
    weight.sum().backward()
    assert weight.grad is not None and not optimizer.gradients(), "outside of the block gradients are the caller's"
