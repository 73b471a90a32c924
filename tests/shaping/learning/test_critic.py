"""The value head: in units of what it predicts, warmed up and kept apart if asked to, clipped by hand."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import Tensor

from envs.episode import Episode
from shaping.arm import compose
from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.credit.critic import Critic
from shaping.learning.learner import Learner
from shaping.learning.losses.losses import value_loss
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import CriticTargets, Sample
from shaping.models import value_head
from shaping.models.value_head import Regression, ValueHead
from shaping.sampling.text.render import Renderer

MakeSample = Callable[..., Sample]
PPO: dict[str, Any] = {"algorithm": "ppo", "advantage_level": "token", "max_grad_norm": 1e9, "max_mismatch_kl": 1e9}


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> ValueHead:
    """Two outputs, one of which has already learned something from small returns."""
    head = ValueHead(8, 2)
    with torch.no_grad():
        head.linear.weight.copy_(random(2, 8))
        head.linear.bias.copy_(random(2))
    head.seen.fill_(1.0)
    return head


@pytest.mark.parametrize(("level", "size"), [(0.0, 1.0), (1000.0, 0.1), (-3.0, 1e4), (0.5, 0.0)])
def test_new_moments_change_no_prediction(head: ValueHead, level: float, size: float) -> None:
    hidden = random(16, 8, seed=1)
    with torch.no_grad():
        before = head(hidden)
        for update in range(12):
            head.observe(level + size * random(32, 2, seed=update))
            torch.testing.assert_close(head(hidden), before, rtol=1e-4, atol=1e-3)
    assert bool((head.deviation > 0).all()) and torch.isfinite(head.linear.weight).all()


def test_moments_are_those_of_what_it_has_seen() -> None:
    head, targets = ValueHead(8, 2), 100.0 + 3.0 * random(4000, 2)
    head.observe(targets)
    torch.testing.assert_close(head.mean, targets.mean(0))
    torch.testing.assert_close(head.deviation, targets.std(0, correction=0), rtol=1e-4, atol=0)
    batches = [100.0 + n + 3.0 * random(50, 2, seed=n) for n in range(10)]
    head = ValueHead(8, 2)
    for batch in batches:
        head.observe(batch)
    everything = torch.cat(batches)
    torch.testing.assert_close(head.mean, everything.mean(0))
    torch.testing.assert_close(head.deviation, everything.std(0, correction=0), rtol=1e-4, atol=0)
    for n in range(140):
        head.observe(5.0 + 0.5 * random(400, 2, seed=n))
    assert_allclose(head.mean, 5.0, atol=0.1)
    assert_allclose(head.deviation, 0.5, atol=0.2)


def test_a_head_that_has_learned_nothing_starts_at_the_mean_of_what_it_sees_first() -> None:
    head, hidden = ValueHead(8, 1), random(4, 8)
    assert not head(hidden).any()
    head.observe(torch.tensor([[10.0], [12.0]]))
    torch.testing.assert_close(head(hidden), torch.full((4, 1), 11.0))


def test_a_head_without_anything_to_predict_keeps_its_unit() -> None:
    head = ValueHead(8, 2)
    head.observe(torch.stack([random(16), torch.zeros(16)], 1))
    assert float(head.deviation[1]) == 1.0 and float(head.deviation[0]) != 1.0
    head.observe(torch.zeros(0, 2))
    assert float(head.seen) == 1.0


@pytest.mark.parametrize(
    ("value", "old", "target", "expected"),
    [
        (0.1, 0.0, 1.0, 0.9**2),  # inside of the clip: the plain error
        (0.5, 0.0, 1.0, 0.8**2),  # moved towards the target beyond the clip: no credit for it
        (-0.5, 0.0, 1.0, 1.5**2),  # moved away: the plain error, the larger one
        (0.5, 0.0, 0.3, 0.2**2),  # past the target
        (0.5, 0.4, 1.0, 0.5**2),
    ],
)
def test_value_clipping_by_hand(value: float, old: float, target: float, expected: float) -> None:
    column = [torch.tensor([[x]], dtype=torch.float64) for x in (value, old, target)]
    values, before, targets = column
    assert float(value_loss(values, before, targets, torch.tensor([True]), 0.2)) == pytest.approx(expected / 2)
    assert float(value_loss(values, before, targets, torch.tensor([False]), 0.2)) == 0.0


def valued(make_sample: MakeSample, *, credit: float = 1.0, spread: float = 1.0, size: float = 1.0) -> list[Sample]:
    """Samples of a critic with two heads. `spread`: how far its old values are from zero, in units of `size`."""
    found = []
    for n in range(3):
        sample = make_sample(16, n, ratio="none")
        rng = np.random.default_rng(n)
        old, targets = (size * rng.normal(size=(2, 16, 2)) + size).astype(np.float32)
        starts = sample.mask & (rng.random(16) < 0.7)
        starts[1] = True
        advantage = np.float32(credit) * sample.advantage
        found.append(
            replace(sample, advantage=advantage, critic=CriticTargets(np.float32(spread) * old, targets, starts))
        )
    return found


@pytest.fixture
def policy(make_policy: Callable[..., Policy]) -> Policy:
    own = make_policy()
    return Policy(own.model, own.tokenizer, critics=2)


def unlike(policy: Policy, before: dict[str, Tensor]) -> set[str]:
    """Groups of parameters that have moved."""
    now = policy.state_dict()
    return {"value" if n.startswith("value") else "model" for n, t in now.items() if not torch.equal(t, before[n])}


@pytest.mark.parametrize("lora", [False, True])
def test_in_warm_up_nothing_but_the_value_head_moves(
    make_policy: Callable[..., Policy], make_sample: MakeSample, lora: bool
) -> None:
    own = make_policy()
    adapters = [AdapterSpec("kept", "kept"), AdapterSpec("quarantine", "quarantine")] if lora else []
    policy = Policy(own.model, own.tokenizer, critics=2, adapters=adapters)
    everything = {"kl": 0.5, "entropy_coef": 0.1, "weight_decay": 0.1, "epochs": 2, "minibatches": 2}
    learner = Learner(policy, LearnerConfig(**PPO, **everything, critic={"warmup": 2}))
    samples = [replace(s, imitation=s.mask.astype(np.float32)) for s in valued(make_sample)]
    for update in range(3):
        before = {n: t.clone() for n, t in policy.state_dict().items()}
        row = learner.update(samples)
        assert unlike(policy, before) == ({"value"} if update < 2 else {"value", "model"})
        assert row["value_loss"] > 0 and row["entropy"] > 0 and row["loss_tokens"] == sum(s.mask.sum() for s in samples)
        assert (row["grad_norm"] > 0) == (update == 2), "in warm-up the head is fitted, once, and takes no step"
        if update < 2:
            assert not learner._optimizer.state_dict()[1]["steps"], "nor do moments of steps that count for nothing"


def test_after_one_update_of_warm_up_the_critic_predicts_what_hidden_states_tell(
    make_policy: Callable[..., Policy], make_sample: MakeSample
) -> None:
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, critics=1)
    sample = make_sample(300)
    (batch,) = pack([sample], 300)
    with torch.no_grad():
        hidden = policy._hidden(batch, ())[batch.rows]
    truth = hidden @ torch.linspace(-1, 1, hidden.shape[1]) * 3 + 50
    targets = np.zeros((300, 1), np.float32)
    targets[sample.mask, 0] = truth.numpy()
    critic = CriticTargets(np.zeros((300, 1), np.float32), targets, sample.mask)
    learner = Learner(policy, LearnerConfig(**PPO, critic={"warmup": 1}))
    learner.update([replace(sample, critic=critic)])
    ((values, _),) = learner.values([sample])
    unexplained = np.var(values[:, 0] - truth.numpy()) / np.var(truth.numpy())
    assert unexplained < 0.01


def test_a_fit_is_ridge_regression_however_its_steps_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    states, targets = 5.0 + random(50, 8), random(50, 2, seed=1)
    features = torch.cat([states, torch.ones(50, 1)], dim=1).double()
    ridge = 1e-2 * features.square().sum(0).mean()
    expected = torch.linalg.solve(features.T @ features + ridge * torch.eye(9).double(), features.T @ targets.double())
    for chunk in (7, 1000):
        monkeypatch.setattr(value_head, "CHUNK", chunk)
        head, sums = ValueHead(8, 2), Regression(8, 2)
        for part in (slice(0, 13), slice(13, 13), slice(13, 50)):
            sums.add(states[part], targets[part])
        head.fit(sums)
        torch.testing.assert_close(head.linear.weight.T.double(), expected[:-1], atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(head.linear.bias.double(), expected[-1], atol=1e-6, rtol=1e-5)


def gradients(policy: Policy, samples: Sequence[Sample], **options: Any) -> tuple[list[Tensor], list[Tensor]]:
    """(of the layers, of the value head)."""
    own = copy.deepcopy(policy)
    with torch.no_grad():
        own.value_head.linear.weight.copy_(0.1 * random(2, 32))  # type: ignore[union-attr]
    own.value_head.seen.fill_(1.0)  # type: ignore[union-attr]
    critic = {"max_grad_norm": 1e9} | options.pop("critic", {})
    Learner(own, LearnerConfig(**PPO | options, critic=critic)).update(samples)
    groups = own.groups()
    found = [[torch.zeros_like(p) if p.grad is None else p.grad for p in groups[name]] for name in ("kept", "value")]
    return found[0], found[1]


def test_detached_the_value_loss_trains_the_head_alone(policy: Policy, make_sample: MakeSample) -> None:
    samples = valued(make_sample, credit=0.0)
    layers, head = gradients(policy, samples)
    none, same = gradients(policy, samples, critic={"detach": True})
    assert any(bool(g.any()) for g in layers) and not any(bool(g.any()) for g in none)
    assert all(torch.equal(a, b) for a, b in zip(head, same, strict=True))
    _, shaped = gradients(policy, valued(make_sample), critic={"detach": True})
    for a, b in zip(head, shaped, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


def test_the_coefficient_scales_the_value_loss_alone(policy: Policy, make_sample: MakeSample) -> None:
    samples = valued(make_sample)
    (free, none), (one, once), (two, twice) = (gradients(policy, samples, critic={"coef": c}) for c in (0.0, 1.0, 2.0))
    assert not any(bool(g.any()) for g in none)
    for f, a, b in zip(free + none, one + once, two + twice, strict=True):
        torch.testing.assert_close(b - a, a - f, atol=1e-4 * float(b.abs().max()), rtol=1e-3)


@pytest.mark.parametrize("size", [1.0, 50.0])
def test_the_value_loss_is_that_of_the_slow_reference(policy: Policy, make_sample: MakeSample, size: float) -> None:
    """Mean over steps, summed over heads, of half the clipped squared error, in deviations of the targets."""
    samples = valued(make_sample, spread=0.3, size=size)
    critics = [s.critic for s in samples if s.critic is not None]
    by_head = [[float(t) for c in critics for t in c.targets[c.mask, h]] for h in (0, 1)]
    total, steps = 0.0, len(by_head[0])
    for h, targets in enumerate(by_head):
        level = sum(targets) / steps
        unit = math.sqrt(sum((t - level) ** 2 for t in targets) / steps)
        for critic in critics:
            for place in np.flatnonzero(critic.mask):
                old, target = float(critic.old[place, h]) / unit, float(critic.targets[place, h]) / unit
                value = level / unit  # a fresh head starts there
                clipped = min(max(value, old - 0.2), old + 0.2)
                total += max((value - target) ** 2, (clipped - target) ** 2) / 2
    row = Learner(policy, LearnerConfig(**PPO)).update(samples)
    assert row["value_loss"] == pytest.approx(total / steps, rel=1e-4)
    surprise = [float(d) for c in critics for d in (c.targets - c.old)[c.mask, 0]]
    assert row["explained_variance"] == pytest.approx(1 - np.var(surprise) / np.var(by_head[0]), rel=1e-4)


def test_the_size_of_rewards_decides_nothing(
    make_policy: Callable[..., Policy], make_episode: Callable[..., Episode]
) -> None:
    def trained(size: float) -> tuple[Policy, list[dict[str, float]]]:
        own = make_policy()
        policy = Policy(own.model, own.tokenizer, critics=1)
        learner, renderer = Learner(policy, LearnerConfig(**{**PPO, "lr": 1e-3})), Renderer(policy.tokenizer)
        rows = []
        for update in range(4):
            rng = np.random.default_rng(update)
            rewards = [rng.normal(size=3) + 2.0 for _ in range(6)]
            episodes = [make_episode(r, group=n // 3, seed=n // 3) for n, r in enumerate(rewards)]
            paid = [size * r for r in rewards]
            critic = Critic(learner.values, 0.9, 0.8)
            credited = assign_credit(
                episodes, paid, compose("arm", []), renderer, algorithm="ppo", level="turn", critic=critic
            )
            rows.append(learner.update(credited.samples))
        return policy, rows

    (small, a), (large, b), start = trained(1.0), trained(100.0), make_policy()
    for name in ("loss", "value_loss", "explained_variance", "grad_norm"):
        assert_allclose([row[name] for row in b], [row[name] for row in a], rtol=2e-2, atol=1e-3)
    moved = [
        float((p - q).abs().mean().detach())
        for p, q in zip(small.model.parameters(), start.model.parameters(), strict=True)
    ]
    apart = [
        float((p - q).abs().mean().detach())
        for p, q in zip(small.model.parameters(), large.model.parameters(), strict=True)
    ]
    assert sum(apart) < 0.02 * sum(moved)
    assert small.value_head is not None and large.value_head is not None
    torch.testing.assert_close(large.value_head.mean, 100 * small.value_head.mean, rtol=1e-3, atol=0)


def test_values_are_those_before_each_sampled_token_and_after_the_last(
    make_policy: Callable[..., Policy], make_sample: MakeSample
) -> None:
    own = make_policy()
    policy = Policy(own.model, own.tokenizer, critics=2)
    with torch.no_grad():
        policy.value_head.linear.weight.copy_(random(2, 32))  # type: ignore[union-attr]
    samples = [make_sample(8 + 3 * n, n) for n in range(5)]
    small, large = (Learner(policy, LearnerConfig(**PPO, token_budget=b)).values(samples) for b in (20, 500))
    for sample, (before, after), (again, final) in zip(samples, small, large, strict=True):
        assert before.shape == (int(sample.mask.sum()), 2) and after.shape == (2,)
        assert_allclose(before, again, atol=1e-3)
        assert_allclose(after, final, atol=1e-3)
        with torch.no_grad():
            hidden = policy.model.base_model(torch.tensor(sample.tokens)[None]).last_hidden_state[0]
            every = policy.value_head(hidden).numpy()  # type: ignore[misc]
        assert_allclose(before, every[np.flatnonzero(sample.mask) - 1], atol=1e-3)
        assert_allclose(after, every[-1], atol=1e-3)


def test_samples_with_and_without_value_targets_go_together(policy: Policy, make_sample: MakeSample) -> None:
    ours = valued(make_sample, credit=0.0)
    cloned = make_sample(20, 7, ratio="none", advantage=np.zeros(20, np.float32))
    cloned = replace(cloned, imitation=cloned.mask.astype(np.float32))
    together, apart = (Learner(copy.deepcopy(policy), LearnerConfig(**PPO)).update(s) for s in ([cloned, *ours], ours))
    assert together["value_loss"] == pytest.approx(apart["value_loss"], rel=1e-5) and together["imitation"] > 0


def test_a_policy_without_a_critic_says_so(make_policy: Callable[..., Policy], make_sample: MakeSample) -> None:
    with pytest.raises(ValueError, match="no critic: build it with critics >= 1"):
        Learner(make_policy(), LearnerConfig(**PPO)).values([make_sample()])


def test_a_value_target_that_is_not_finite_is_skipped_by_name_and_leaves_the_moments_alone(
    policy: Policy, make_sample: MakeSample, caplog: pytest.LogCaptureFixture
) -> None:
    samples = valued(make_sample)
    critic = samples[1].critic
    assert critic is not None
    targets = critic.targets.copy()
    targets[1, 1] = np.inf
    samples[1] = replace(samples[1], critic=replace(critic, targets=targets))
    before = {n: t.clone() for n, t in policy.state_dict().items()}
    assert Learner(policy, LearnerConfig(**PPO)).update(samples) == {"skipped_steps": 1.0}
    assert "sample 1 of 3 has a non-finite value or value target" in caplog.text
    assert not unlike(policy, before)


def test_gradients_of_value_head_and_policy_are_clipped_apart(policy: Policy, make_sample: MakeSample) -> None:
    """A large value loss would otherwise take the policy's step away."""
    samples = valued(make_sample)

    def norms(**limits: float) -> tuple[float, float]:
        critic = {"coef": 100.0, "detach": True, "max_grad_norm": limits.pop("value", 1e9)}
        of_policy, of_head = gradients(policy, samples, critic=critic, **limits)
        return tuple(float(torch.cat([g.flatten() for g in part]).norm()) for part in (of_policy, of_head))  # type: ignore[return-value]

    whole, of_head = norms()
    assert of_head > 5 and whole > 0.1
    assert norms(value=1.0) == pytest.approx((whole, 1.0), rel=1e-4)
    assert norms(value=1.0, max_grad_norm=0.05) == pytest.approx((0.05, 1.0), rel=1e-4)
    assert norms(max_grad_norm=0.05) == pytest.approx((0.05, of_head), rel=1e-4)
