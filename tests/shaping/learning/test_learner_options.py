"""What the options of the learner do to an update, and that their defaults do nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from gradients import copied
from rounding import assert_same_but_rounding, roundings_apart
from torch import Tensor

from shaping.hooks import ActivationEdit, Knob, Phase
from shaping.intervention import Shaper
from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.packing import Batch, pack
from shaping.learning.samples.sample import Sample
from shaping.models.forward import head_logits, hidden_states

MakeSample = Callable[..., Sample]


@pytest.fixture
def policy(make_policy: Callable[..., Policy]) -> Policy:
    """A fresh one for every test: here weights change."""
    return make_policy()


def updated(policy: Policy, samples: list[Sample], **options: Any) -> tuple[list[Tensor], dict[str, float]]:
    """(gradients of the last step, metrics) of one update of a copy."""
    own = copied(policy)
    interventions = options.pop("interventions", ())
    config = LearnerConfig(**{"max_grad_norm": 1e9, "max_mismatch_kl": 1e9, "mismatch_correction": "none", **options})
    row = Learner(own, config, interventions=interventions).update(samples)
    return [p.grad for p in own.model.parameters() if p.grad is not None], row


def close(a: list[Tensor], b: list[Tensor]) -> bool:
    return max(roundings_apart(a, b)) < 1000  # a part in 10 000: some are differences of gradients much larger


def plain_logprobs(model: Any, batch: Batch) -> Tensor:
    hidden = hidden_states(model, batch.ids, batch.positions, batch.plan)[0][batch.rows]
    logits = head_logits(model, hidden)
    logits = logits.index_put((batch.masked_tokens[:, 0], batch.masked_tokens[:, 1]), logits.new_tensor(-torch.inf))
    return logits.log_softmax(-1).gather(1, batch.targets[:, None])[:, 0]


def plain_update(policy: Policy, samples: list[Sample], kl: float, max_grad_norm: float | None) -> None:
    """PPO's clip at 0.2, the k3 term, the clipped norm, one AdamW step; nothing else."""
    reference = copy.deepcopy(policy.model).eval()
    policy.model.train()
    optimizer = torch.optim.AdamW(policy.model.parameters(), lr=1e-3, weight_decay=0.0)
    batches = pack(samples, 64)
    tokens = sum(b.loss_tokens for b in batches)
    for batch in batches:
        logprobs = plain_logprobs(policy.model, batch)
        old = logprobs.detach() if batch.ratio == "recomputed" else batch.old
        if batch.ratio == "none":
            old = logprobs.detach()
        ratio = torch.exp(logprobs - old)
        surrogate = torch.minimum(ratio * batch.advantage, ratio.clamp(0.8, 1.2) * batch.advantage)
        if batch.ratio == "none":
            surrogate = ratio * batch.advantage
        loss = -(surrogate * batch.weight).sum() / tokens
        if kl:
            with torch.no_grad():
                d = plain_logprobs(reference, batch)
            d = d - logprobs
            loss = loss + kl * (torch.exp(d) - d - 1).sum() / tokens
        loss.backward()
    if max_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(policy.model.parameters(), max_grad_norm)
    optimizer.step()


@pytest.mark.parametrize("ratio", ["sampler", "recomputed", "none"])
@pytest.mark.parametrize("kl", [0.0, 0.3])
def test_by_default_an_update_is_the_plain_one_bit_for_bit(
    policy: Policy, make_sample: MakeSample, ratio: str, kl: float
) -> None:
    samples = [make_sample(n, n, masked_tokens=n % 2 == 0, ratio=ratio) for n in (12, 5, 30, 17, 22, 9)]
    ours, plain, start = copied(policy), copied(policy), policy.model.state_dict()
    Learner(ours, LearnerConfig(token_budget=64, kl=kl, max_grad_norm=1e9)).update(samples)
    plain_update(plain, samples, kl, max_grad_norm=None)
    for (name, a), b in zip(ours.model.state_dict().items(), plain.model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert any(not torch.equal(tensor, start[name]) for name, tensor in ours.model.state_dict().items())


@pytest.mark.parametrize("ratio", ["sampler", "recomputed", "none"])
def test_by_default_the_norm_of_the_gradient_is_clipped_at_one(
    policy: Policy, make_sample: MakeSample, ratio: str
) -> None:
    """Not bit for bit: the norm is a sum over parameters, which the learner takes in the order their gradients come."""
    samples = [make_sample(n, n, ratio=ratio) for n in (12, 5, 30, 17, 22, 9)]
    ours, plain = copied(policy), copied(policy)
    row = Learner(ours, LearnerConfig(token_budget=64)).update(samples)
    plain_update(plain, samples, 0.0, max_grad_norm=1.0)
    assert row["grad_norm"] > 2, "there is something to clip"
    clipped, expected = ([p.grad for p in own.model.parameters()] for own in (ours, plain))
    assert_same_but_rounding(clipped, expected, units=4)  # type: ignore[arg-type]


def test_an_entropy_bonus_spreads_the_policy_and_needs_no_reward(policy: Policy, make_sample: MakeSample) -> None:
    samples = [replace(make_sample(20, n), advantage=np.zeros(20, np.float32)) for n in range(3)]
    learner = Learner(policy, LearnerConfig(lr=1e-3, entropy_coef=0.5))
    before = learner.update(samples)
    for _ in range(5):
        after = learner.update(samples)
    assert after["entropy"] > before["entropy"] + 0.05 and before["grad_norm"] > 0
    assert before["loss"] == 0.0, "the policy term is logged without the bonus"


def test_the_bonus_is_the_mean_entropy_times_its_coefficient(policy: Policy, make_sample: MakeSample) -> None:
    samples = [make_sample(20, n) for n in range(3)]
    free, unit, double = (updated(policy, samples, entropy_coef=c)[0] for c in (0.0, 1.0, 2.0))
    assert not close(free, unit)
    assert close([u - f for u, f in zip(unit, free, strict=True)], [d - u for d, u in zip(double, unit, strict=True)])
    (batch,) = pack(samples, 60)
    own = copied(policy)
    _, entropy = own.logprobs(batch, entropy_gradient=True)
    (-entropy.mean()).backward()
    alone = [p.grad for p in own.model.parameters() if p.grad is not None]
    assert close([u - f for u, f in zip(unit, free, strict=True)], alone)


def test_sequence_ratios_reach_the_update(policy: Policy, make_sample: MakeSample) -> None:
    samples = [make_sample(20, n) for n in range(4)]
    token, by_token = updated(policy, samples)
    sequence, by_sequence = updated(policy, samples, ratio_level="sequence")
    small, _ = updated(policy, samples, ratio_level="sequence", token_budget=20)
    assert not close(token, sequence) and by_token["loss"] != pytest.approx(by_sequence["loss"])
    assert close(sequence, small)
    for mode in ("recomputed", "none"):  # they start at ratio one, whatever it is taken over
        alike = [replace(s, ratio=mode) for s in samples]
        assert close(updated(policy, alike)[0], updated(policy, alike, ratio_level="sequence")[0])


@pytest.mark.parametrize(
    ("estimator", "formula"),
    [("k1", lambda d: -d), ("k2", lambda d: d**2 / 2), ("k3", lambda d: torch.exp(d) - d - 1)],
)
def test_the_kl_estimator_is_the_one_asked_for(
    policy: Policy, make_sample: MakeSample, estimator: str, formula: Callable[[Tensor], Tensor]
) -> None:
    samples = [make_sample(20, n, advantage=np.ones(20, np.float32)) for n in range(2)]
    (batch,) = pack(samples, 40)
    own = copied(policy)
    learner = Learner(own, LearnerConfig(kl=1e-9, kl_estimator=estimator))
    learner.update(samples)
    with torch.no_grad():
        d = policy.logprobs(batch)[0] - own.logprobs(batch)[0]
    assert float(d.abs().max()) > 0.01, "it has moved"
    assert learner.update(samples)["kl"] == pytest.approx(float(formula(d).mean()), rel=1e-3)


def mismatched(policy: Policy, make_sample: MakeSample, ratio: str, **changes: Any) -> tuple[list[Sample], np.ndarray]:
    """Samples of a sampler that gave its tokens too little, just enough and too much, and learner / sampler."""
    samples, factors = [], []
    for seed in range(4):
        sample = make_sample(20, seed, ratio=ratio, **{"on_policy": True, **changes})
        factor = np.where(sample.mask, np.array([0.5, 1.0, 4.0, 1.5] * 5), 1.0).astype(np.float32)
        old = np.zeros(20, np.float32)
        with torch.no_grad():
            old[sample.mask] = policy.logprobs(pack([sample], 20)[0])[0].numpy()
        halved = np.where(np.arange(20) < 10, sample.weight, 0.5 * sample.weight).astype(np.float32)
        samples.append(replace(sample, old_logprobs=old - np.log(factor), weight=halved))
        factors.append(factor)
    return samples, np.stack(factors)


@pytest.mark.parametrize("minibatches", [1, 2])
@pytest.mark.parametrize("ratio", ["recomputed", "none"])
@pytest.mark.parametrize(("mode", "top"), [("truncate", 2.0), ("mask", 0.0)])
def test_a_mismatch_weighs_the_policy_gradient(
    policy: Policy, make_sample: MakeSample, mode: str, top: float, ratio: str, minibatches: int
) -> None:
    samples, factors = mismatched(policy, make_sample, ratio)
    expected = np.where(factors > 2, top, factors)
    weighed = [replace(s, weight=(s.weight * w).astype(np.float32)) for s, w in zip(samples, expected, strict=True)]
    options = {"minibatches": minibatches, "lr": 1e-9}
    found, row = updated(policy, samples, mismatch_correction=mode, mismatch_cap=2.0, **options)
    assert close(found, updated(policy, weighed, **options)[0])
    assert not close(found, updated(policy, samples, **options)[0])
    inside = np.stack([s.mask for s in samples])
    assert row["mismatch_weight"] == pytest.approx(expected[inside].mean(), rel=1e-4)


@pytest.mark.parametrize(("ratio", "on_policy"), [("sampler", True), ("recomputed", False), ("none", False)])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_where_the_ratio_holds_it_or_contexts_differ_on_purpose_nothing_is_corrected(
    policy: Policy, make_sample: MakeSample, ratio: str, on_policy: bool, minibatches: int
) -> None:
    samples, _ = mismatched(policy, make_sample, ratio, on_policy=on_policy)
    plain, _ = updated(policy, samples, minibatches=minibatches)
    corrected, row = updated(policy, samples, minibatches=minibatches, mismatch_correction="truncate")
    assert all(torch.equal(a, b) for a, b in zip(plain, corrected, strict=True))
    assert "mismatch_weight" not in row


class Steers(Shaper):
    owns: ClassVar[frozenset[Knob]] = frozenset({Knob.SAMPLING_EDITS, Knob.TRAINING_EDITS, Knob.RATIO})

    def edits(self, phase: Phase) -> list[ActivationEdit]:
        return [ActivationEdit(0, "add", np.ones(32, np.float32), 2.0)] if phase == "sampling" else []


def stale(policy: Policy, make_sample: MakeSample, ratio: str) -> tuple[list[Sample], np.ndarray]:
    """Samples that were learned under a longer context than they were sampled in, and now / then in the latter."""
    samples, factors = [], []
    for seed in range(4):
        then = make_sample(20, seed, masked_tokens=True)
        factor = np.where(then.mask, np.array([0.5, 1.0, 4.0, 1.5] * 5), 1.0).astype(np.float32)
        old = np.zeros(20, np.float32)
        with torch.no_grad():
            old[then.mask] = policy.logprobs(pack([then], 20)[0], Steers().edits("sampling"))[0].numpy()
        then = replace(then, old_logprobs=old - np.log(factor))

        def longer(values: np.ndarray) -> np.ndarray:
            return np.concatenate([np.zeros((3, *values.shape[1:]), values.dtype), values])

        streams = {n: longer(getattr(then, n)) for n in ("tokens", "mask", "old_logprobs", "advantage", "weight")}
        masked_tokens = then.masked_tokens + np.array([3, 0])
        samples.append(replace(then, **streams, masked_tokens=masked_tokens, ratio=ratio, sampled=then))  # type: ignore[arg-type]
        factors.append(longer(factor))
    return samples, np.stack(factors)


@pytest.mark.parametrize("options", [{}, {"minibatches": 2}, {"token_budget": 23}], ids=str)
@pytest.mark.parametrize("ratio", ["recomputed", "none"])
@pytest.mark.parametrize(("mode", "top"), [("truncate", 2.0), ("mask", 0.0)])
def test_what_an_older_version_sampled_is_weighed_where_it_was_sampled(
    policy: Policy, make_sample: MakeSample, mode: str, top: float, ratio: str, options: dict[str, Any]
) -> None:
    """Under the sampling context, mask and edits, whatever it is learned under."""
    samples, factors = stale(policy, make_sample, ratio)
    options = {"lr": 1e-9, "token_budget": 64, **options, "interventions": [Steers()]}
    weights = np.where(factors > 2, top, factors)
    weighed = [replace(s, weight=(s.weight * w).astype(np.float32)) for s, w in zip(samples, weights, strict=True)]
    found, row = updated(policy, samples, mismatch_correction=mode, mismatch_cap=2.0, **options)
    assert close(found, updated(policy, weighed, **options)[0])
    assert not close(found, updated(policy, samples, **options)[0])
    inside = np.stack([s.mask for s in samples])
    assert row["staleness_weight"] == pytest.approx(weights[inside].mean(), rel=1e-4)
    assert "mismatch_weight" not in row, "there is one weight for both"


def test_one_weight_per_sequence_is_the_product_of_its_tokens(policy: Policy, make_sample: MakeSample) -> None:
    samples, factors = stale(policy, make_sample, "none")
    products = [float(np.prod(f[s.mask])) for s, f in zip(samples, factors, strict=True)]
    weighed = [replace(s, weight=s.weight * np.float32(min(w, 3.0))) for s, w in zip(samples, products, strict=True)]
    options = {"interventions": [Steers()]}
    found, _ = updated(policy, samples, mismatch_correction="sequence_truncate", mismatch_cap=3.0, **options)
    assert close(found, updated(policy, weighed, **options)[0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"algorithm": "ppo"},
        {"advantage_level": "token"},
        {"ratio_level": "turn"},
        {"kl_estimator": "k4"},
        {"mismatch_cap": 0.5},
        {"entropy_coef": -0.1},
    ],
)
def test_an_option_that_does_not_exist_is_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LearnerConfig(**wrong)
