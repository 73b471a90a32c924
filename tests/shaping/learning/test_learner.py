"""The learner: it learns what is rewarded, refuses unsound numbers, and leaves nothing behind."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from shaping.hooks import ActivationEdit, LossTerm
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.advantages import estimate
from shaping.learning.learner import Learner, LearnerError
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import pack
from shaping.learning.samples.sample import Sample
from shaping.sampling.text.render import Renderer

MakeSample = Callable[..., Sample]
State = dict[str, Tensor]
STEER = ActivationEdit(0, "add", np.linspace(-1, 1, 32, dtype=np.float32), 2.0)


@pytest.fixture
def policy(make_policy: Callable[..., Policy]) -> Policy:
    """A fresh one for every test: here weights change."""
    return make_policy()


def weights(policy: Policy) -> State:
    return {name: tensor.clone() for name, tensor in policy.model.state_dict().items()}


def unchanged(policy: Policy, before: State) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in policy.model.state_dict().items())


def moments(learner: Learner) -> list[Tensor]:
    return list(learner._optimizer.state_dict()[0].values())


def logprobs(policy: Policy, sample: Sample, edits: Sequence[ActivationEdit] = ()) -> Tensor:
    with torch.no_grad():
        return policy.logprobs(pack([sample], len(sample))[0], edits)[0]


def reply(policy: Policy, text: str, advantage: float) -> Sample:
    """A one-turn episode, sampled on-policy."""
    renderer = Renderer(policy.tokenizer)
    head, body = renderer.open("", "turn 1 / 4 ."), [*renderer.plain(text), renderer.eos]
    return on_policy(policy, head, body, advantage, np.zeros((0, 2), np.int64))


def on_policy(policy: Policy, head: list[int], body: list[int], advantage: float, masked_tokens: Any) -> Sample:
    tokens = np.array(head + body, np.int64)
    mask = np.arange(len(tokens)) >= len(head)
    stream = mask.astype(np.float32)
    sample = Sample(tokens, mask, stream, stream * np.float32(advantage), stream, masked_tokens)
    old = np.zeros(len(tokens), np.float32)
    old[mask] = logprobs(policy, sample).numpy()
    return replace(sample, old_logprobs=old)


ARMS = (65, 70)
"""The two replies of a bandit, one token each; every other token is masked."""


def bandit(policy: Policy, advantages: Sequence[float] = (1.0, -1.0), arms: Sequence[int] = ARMS) -> list[Sample]:
    head = Renderer(policy.tokenizer).open("", "turn 1 / 4 .")
    masked = np.array([(len(head), i) for i in range(320) if i not in ARMS], np.int64)
    return [on_policy(policy, head, [arm], a, masked) for arm, a in zip(arms, advantages, strict=True)]


def chance(policy: Policy) -> float:
    """Of the first arm."""
    return float(logprobs(policy, bandit(policy)[0]).exp())


def test_the_rewarded_of_two_replies_becomes_more_likely(policy: Policy) -> None:
    learner, rng, before = Learner(policy, LearnerConfig(lr=1e-3)), np.random.default_rng(0), chance(policy)
    for _ in range(20):
        arms = [ARMS[int(rng.random() > chance(policy))] for _ in range(8)]
        returns = np.array([float(arm == ARMS[0]) for arm in arms])
        row = learner.update(bandit(policy, estimate("grpo", returns, np.zeros(8, np.int64)), arms))
    assert before < 0.9 < chance(policy)
    assert row["mismatch_kl"] < 1e-6 and learner.version == 20


def test_metrics_are_means_per_token_in_the_loss(policy: Policy) -> None:
    samples = [reply(policy, "ACTION: wait", 1.0), reply(policy, "ACTION: grab 3", -1.0)]
    tokens = sum(int(s.mask.sum()) for s in samples)
    row = Learner(policy, LearnerConfig()).update(samples)
    balance = sum(-float(s.advantage.sum()) for s in samples)
    assert row["loss_tokens"] == tokens
    assert row["loss"] == pytest.approx(balance / tokens, abs=1e-4), "at ratio one the loss is minus the advantage"
    assert 0 < row["entropy"] < np.log(320)
    assert row["clipped"] == 0.0


def test_nothing_to_learn_from_is_no_update(policy: Policy) -> None:
    learner, before = Learner(policy, LearnerConfig()), weights(policy)
    assert learner.update([]) == {} and learner.version == 0 and unchanged(policy, before)


@pytest.mark.parametrize("stream", ["advantage", "weight", "old_logprobs"])
def test_a_stream_that_is_not_finite_is_skipped_by_name_and_soon_an_error(
    policy: Policy, stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    samples, learner, before = bandit(policy), Learner(policy, LearnerConfig(max_bad_steps=2)), weights(policy)
    broken = getattr(samples[1], stream).copy()
    broken[-1] = np.nan
    samples[1] = replace(samples[1], **{stream: broken})
    assert learner.update(samples) == {"skipped_steps": 1.0}
    assert f"sample 1 of 2 has a non-finite {stream}" in caplog.text
    with pytest.raises(LearnerError, match=f"sample 1 of 2 has a non-finite {stream}, 2 times in a row"):
        learner.update(samples)
    assert unchanged(policy, before) and not moments(learner)


def test_a_policy_that_the_sampler_did_not_have_is_refused(policy: Policy) -> None:
    samples, learner, before = bandit(policy), Learner(policy, LearnerConfig(max_mismatch_kl=0.05)), weights(policy)
    shifted = [replace(s, old_logprobs=s.old_logprobs + np.float32(0.5) * s.mask) for s in samples]
    with pytest.raises(LearnerError, match=r"differ from the learner's by KL 0\.106.*max_mismatch_kl=0\.05"):
        learner.update(shifted)
    assert unchanged(policy, before) and not moments(learner)
    learner.update([replace(s, on_policy=False, ratio="none") for s in shifted])
    assert not unchanged(policy, before), "where contexts differ on purpose, the difference is no error"


class Poison(Shaper):
    """An auxiliary loss whose gradient is not a number as long as it is told so; the loss itself is 0."""

    model_config = {"frozen": False}
    active: bool = True

    def auxiliary_loss(self, policy: Policy, batch: Sequence[Any]) -> LossTerm:
        value = sum(p.sum() for p in policy.model.parameters()) * 0.0
        return LossTerm("poison", value.sqrt() if self.active else value)


def test_a_gradient_that_is_not_finite_is_skipped_and_after_some_in_a_row_an_error(policy: Policy) -> None:
    poison, before = Poison(), weights(policy)
    learner = Learner(policy, LearnerConfig(max_bad_steps=3), interventions=[poison])
    for _ in range(2):
        assert learner.update(bandit(policy))["grad_norm"] == 0.0
    assert unchanged(policy, before) and not moments(learner), "no trace in the weights or in the optimiser"
    poison.active = False
    learner.update(bandit(policy))
    assert not unchanged(policy, before) and all(torch.isfinite(m).all() for m in moments(learner))
    poison.active, after, clean = True, weights(policy), copy.deepcopy(moments(learner))
    for _ in range(2):
        learner.update(bandit(policy))  # a good step has started the count afresh
    with pytest.raises(LearnerError, match="gradient norm is not finite, 3 times in a row"):
        learner.update(bandit(policy))
    assert unchanged(policy, after)
    assert all(torch.equal(a, b) for a, b in zip(moments(learner), clean, strict=True))


def test_a_kept_gate_of_zero_is_no_gradient_and_of_one_is_none_at_all(policy: Policy, make_sample: MakeSample) -> None:
    samples = [make_sample(14, n, ratio="none") for n in range(3)]
    before = weights(policy)
    shut = Learner(policy, LearnerConfig())
    assert shut.update([replace(s, kept_gate=0.0) for s in samples])["grad_norm"] == 0.0
    assert unchanged(policy, before)
    norms = [
        Learner(Policy(copy.deepcopy(policy.model), policy.tokenizer), LearnerConfig()).update(batch)["grad_norm"]
        for batch in (
            samples,
            [replace(s, kept_gate=1.0) for s in samples],
            [replace(s, kept_gate=0.5) for s in samples],
        )
    ]
    assert norms[1] == norms[0] and norms[2] == pytest.approx(norms[0] / 2, rel=1e-5)


def test_gating_one_episode_removes_its_share_of_the_gradient_and_no_others(
    policy: Policy, make_sample: MakeSample
) -> None:
    kept, gated = make_sample(14, 0, ratio="none"), make_sample(20, 1, ratio="none", kept_gate=0.0)

    def after(samples: list[Sample]) -> list[Tensor]:
        copied = Policy(copy.deepcopy(policy.model), policy.tokenizer)
        Learner(copied, LearnerConfig(max_grad_norm=1e9)).update(samples)
        return [p.grad for p in copied.model.parameters()]  # type: ignore[misc]

    share = int(kept.mask.sum()) / int(kept.mask.sum() + gated.mask.sum())
    for together, alone in zip(after([kept, gated]), after([kept]), strict=True):
        torch.testing.assert_close(together, alone * share)


def test_edits_act_in_the_forward_pass_and_leave_no_hook_and_no_bit_behind(policy: Policy) -> None:
    sample, before = reply(policy, "ACTION: wait", 0.0), weights(policy)
    steered = logprobs(policy, sample, [STEER])
    assert (steered - logprobs(policy, sample)).abs().max() > 1e-3
    with pytest.raises(ValueError, match="the model has 2 layers"):
        policy.logprobs(pack([sample], 99)[0], [STEER, ActivationEdit(5, "add", STEER.direction)])
    row = Learner(policy, LearnerConfig(max_mismatch_kl=100.0), edits=[STEER]).update([sample])
    assert row["mismatch_kl"] > 1e-6, "the sampler had no edits here"
    assert unchanged(policy, before), "an advantage of zero teaches nothing, and edits are not weights"
    assert not any(module._forward_hooks for module in policy.model.modules())


@pytest.mark.parametrize("ratio", ["recomputed", "none"])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_off_policy_samples_start_at_ratio_one_with_recompute_and_none(
    policy: Policy, make_sample: MakeSample, ratio: str, minibatches: int
) -> None:
    samples = [make_sample(12, n, ratio=ratio) for n in range(4)]
    row = Learner(policy, LearnerConfig(minibatches=minibatches, lr=1e-9)).update(samples)
    expected = sum(-float(s.advantage[s.mask].sum()) for s in samples) / row["loss_tokens"]
    assert row["loss"] == pytest.approx(expected, abs=1e-4) and row.get("clipped", 0.0) == 0.0
    crossed = Learner(policy, LearnerConfig(lr=1e-9)).update([replace(s, ratio="sampler") for s in samples])
    assert crossed["clipped"] > 0 and crossed["loss"] != pytest.approx(expected, abs=1e-3)


def test_several_minibatches_are_several_steps_and_every_sample_is_used_once(policy: Policy) -> None:
    samples = bandit(policy) * 3
    before = weights(policy)
    learner = Learner(policy, LearnerConfig(minibatches=3, lr=1e-2))
    row = learner.update(samples)
    steps = {int(count) for count in learner._optimizer.state_dict()[1]["steps"].values()}
    assert steps == {3} and learner.version == 1 and not unchanged(policy, before)
    assert row["loss_tokens"] == sum(int(s.mask.sum()) for s in samples)
    assert row["mismatch_kl"] < 1e-6, "only before the first step sampler and learner hold the same policy"


def test_more_minibatches_than_samples_are_harmless(policy: Policy) -> None:
    row = Learner(policy, LearnerConfig(minibatches=5)).update(bandit(policy))
    assert all(np.isfinite(value) for value in row.values())


def test_the_reference_policy_is_where_training_started_and_holds_the_policy_back(
    make_policy: Callable[..., Policy],
) -> None:
    def train(kl: float) -> float:
        policy = make_policy()
        learner = Learner(policy, LearnerConfig(lr=1e-3, kl=kl))
        first = learner.update(bandit(policy))
        for _ in range(20):
            last = learner.update(bandit(policy))
        if kl:
            assert learner._reference is not None and unchanged(learner._reference._copy, weights(make_policy()))
            assert first["kl"] == pytest.approx(0.0, abs=1e-6) and last["kl"] > 0
        return chance(policy)

    free, weak, strong, start = train(0.0), train(0.1), train(10.0), chance(make_policy())
    assert free > weak > strong + 0.01 and abs(strong - start) < 0.1 < abs(free - start)


class Norm(Shaper):
    def auxiliary_loss(self, policy: Policy, batch: Sequence[Sample]) -> LossTerm:
        weight = policy.model.base_model.norm.weight
        return LossTerm("norm", (weight**2).sum(), coefficient=100.0)


def test_an_auxiliary_loss_is_added_with_its_coefficient_and_logged(policy: Policy) -> None:
    before = policy.model.base_model.norm.weight.detach().clone()
    flat = [replace(s, advantage=0 * s.advantage) for s in bandit(policy)]
    row = Learner(policy, LearnerConfig(), interventions=[Norm()]).update(flat)
    assert row["auxiliary/norm"] == pytest.approx(float((before**2).sum()) / row["loss_tokens"], rel=1e-5)
    assert (policy.model.base_model.norm.weight < before).all()


def test_the_result_depends_on_neither_budget_nor_run(make_policy: Callable[..., Policy]) -> None:
    def after(budget: int) -> State:
        policy = make_policy()
        Learner(policy, LearnerConfig(token_budget=budget)).update(bandit(policy) * 2)
        return weights(policy)

    first, again, small = after(8192), after(8192), after(24)
    assert all(torch.equal(first[name], again[name]) for name in first)
    # Adam divides by the gradient's own size: rounding may show where that is almost zero
    assert all((first[name] - small[name]).abs().mean() < 2e-5 for name in first)
