"""The gradient of a whole step, TRL's against the learner's: forward pass, loss, averages and backward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from trl import GRPOTrainer

from shaping.learning.config import LearnerConfig
from shaping.learning.learner import Learner
from shaping.learning.policy import Policy
from shaping.learning.samples.sample import Sample

TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
WIDTH = 9
"""The constant by which dr_grpo divides."""

MakePolicy = Callable[..., Policy]
MakeTrainer = Callable[..., GRPOTrainer]
GradientOf = Callable[[Learner, list[Sample]], dict[str, Tensor]]


def sampled(policy: Policy, seed: int, *, one_advantage: bool) -> list[Sample]:
    """Sequences with gaps in their loss masks whose old log-probs are off the policy's own by up to half a nat."""
    rng = np.random.default_rng(seed)
    samples = []
    for length in (13, 7, 20, 9):
        mask = rng.random(length) < 0.6
        mask[:3], mask[3] = False, True
        advantage = np.full(length, rng.normal()) if one_advantage else rng.normal(size=length)
        sample = Sample(
            tokens=rng.integers(5, 250, length),
            mask=mask,
            old_logprobs=np.zeros(length, np.float32),
            advantage=advantage.astype(np.float32),
            weight=mask.astype(np.float32),
            masked_tokens=np.zeros((0, 2), np.int64),
            on_policy=False,
        )
        ids = torch.from_numpy(sample.tokens)[None]
        with torch.no_grad():
            found = policy.model(input_ids=ids).logits.log_softmax(-1)[0, :-1].gather(1, ids[0, 1:, None])[:, 0]
        old = np.concatenate([[0.0], found.numpy() + rng.uniform(-0.5, 0.5, length - 1)]).astype(np.float32)
        samples.append(replace(sample, old_logprobs=old))
    return samples


def as_trl_batch(samples: list[Sample], pad: int) -> dict[str, Tensor]:
    """The first three tokens are the prompt; right-padded as TRL pads completions."""
    width = max(map(len, samples)) - 3

    def column(name: str, fill: float, dtype: torch.dtype) -> Tensor:
        rows = [getattr(s, name)[3:] for s in samples]
        return torch.tensor(np.array([np.pad(r, (0, width - len(r)), constant_values=fill) for r in rows]), dtype=dtype)

    lengths = torch.tensor([len(s) - 3 for s in samples])
    tool_mask = column("mask", 0, torch.long)
    return {
        "prompt_ids": torch.tensor(np.array([s.tokens[:3] for s in samples])),
        "prompt_mask": torch.ones(len(samples), 3, dtype=torch.long),
        "completion_ids": column("tokens", pad, torch.long),
        "completion_mask": (torch.arange(width)[None] < lengths[:, None]).long(),
        "tool_mask": tool_mask,
        "advantages": column("advantage", 0.0, torch.float32),
        "old_per_token_logps": column("old_logprobs", 0.0, torch.float32),
        "num_items_in_batch": tool_mask.sum(),
    }


def assert_same_gradient(found: dict[str, Tensor], trained: torch.nn.Module) -> None:
    """Relative to the largest entry: single entries are rounded in the sums over tokens that give them."""
    scale = max(float(gradient.abs().max()) for gradient in found.values())
    for name, parameter in trained.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(
            found[name] / scale,
            parameter.grad / scale,
            **TOLERANCE,
            msg=lambda text, name=name: f"{name}: {text}",  # type: ignore[misc]
        )


STEPS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "token-mean": ({"loss_type": "dapo"}, {"loss_aggregation": "token"}),
    "sequence-mean": ({"loss_type": "grpo"}, {"loss_aggregation": "sequence"}),
    "constant": ({"loss_type": "dr_grpo"}, {"loss_aggregation": "constant", "aggregation_length": WIDTH}),
    "gspo": (
        {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 0.05, "epsilon_high": 0.1},
        {"loss_aggregation": "sequence", "ratio_level": "sequence", "clip_low": 0.05, "clip_high": 0.1},
    ),
    "clip-higher": ({"loss_type": "dapo", "epsilon_high": 0.4}, {"loss_aggregation": "token", "clip_high": 0.4}),
    "entropy-bonus": ({"loss_type": "dapo", "entropy_coef": 0.05}, {"loss_aggregation": "token", "entropy_coef": 0.05}),
}


@pytest.mark.parametrize("name", STEPS)
def test_the_gradient_of_a_step_is_the_one_of_trl(
    make_trl_trainer: MakeTrainer, make_policy: MakePolicy, gradient_of: GradientOf, name: str
) -> None:
    their_settings, our_settings = STEPS[name]
    ours, other = make_policy(), make_policy()
    samples = sampled(ours, 3, one_advantage=name == "gspo")
    learner = Learner(ours, LearnerConfig(**our_settings))
    gradient = gradient_of(learner, samples)
    trainer = make_trl_trainer(policy=other, **{"epsilon": 0.2, "epsilon_high": 0.2, **their_settings})
    trainer.compute_loss(trainer.model, as_trl_batch(samples, other.tokenizer.pad_token_id)).backward()
    assert_same_gradient(gradient, other.model)


def moved(policy: Policy) -> Policy:
    """Off its reference, so that the gradient of the penalty is not zero."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.mul_(1 + 0.1 * torch.randn(parameter.shape, generator=generator))
    return policy


def test_the_gradient_of_a_step_with_a_reference_is_the_one_of_trl(
    make_trl_trainer: MakeTrainer, make_policy: MakePolicy, gradient_of: GradientOf
) -> None:
    ours, other, reference = make_policy(), moved(make_policy()), make_policy()
    learner = Learner(ours, LearnerConfig(kl=0.4))
    moved(ours)
    samples = sampled(ours, 3, one_advantage=False)
    gradient = gradient_of(learner, samples)
    trainer = make_trl_trainer(
        policy=other, loss_type="dapo", epsilon=0.2, epsilon_high=0.2, use_bias_correction_kl=False
    )
    batch = as_trl_batch(samples, other.tokenizer.pad_token_id)
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    with torch.no_grad():
        found = reference.model(input_ids=ids).logits.log_softmax(-1)[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
    trainer.beta = 0.4
    trainer.compute_loss(trainer.model, {**batch, "ref_per_token_logps": found[:, 2:]}).backward()
    assert_same_gradient(gradient, other.model)
