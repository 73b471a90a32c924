"""Our losses and advantages against TRL's own code, executed for real, on random batches.

TRL's trainers are built and their loss and advantage code is run. Only the forward pass is replaced: it gives log-probs
that the test chose, in double precision, so that nothing but the arithmetic is compared, value and gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOTrainer, RLOOConfig, RLOOTrainer

from shaping.learning.credit.advantages import estimate
from shaping.learning.losses.losses import kl_k3, mismatch_weight, policy_gradient, sequence_old
from shaping.learning.policy import Policy

TOLERANCE: dict[str, Any] = {"rtol": 1e-5, "atol": 1e-5}
WIDTH = 9
"""Tokens of a completion at most, and the constant by which dr_grpo divides."""

MakePolicy = Callable[..., Policy]
MakeTrainer = Callable[..., GRPOTrainer]


@dataclass(frozen=True)
class Random:
    """A padded batch as TRL has it, [rows, width], and as the learner packs it: what the mask selects, [m]."""

    now: Tensor
    old: Tensor
    reference: Tensor
    advantage: Tensor
    completion_mask: Tensor
    tool_mask: Tensor

    @property
    def mask(self) -> Tensor:
        return (self.completion_mask * self.tool_mask).bool()

    @property
    def sequence(self) -> Tensor:
        return torch.arange(len(self.mask))[:, None].expand_as(self.mask)[self.mask]

    def packed(self, values: Tensor) -> Tensor:
        """[rows, width], [rows, 1] or [rows] to [m]."""
        values = values if values.dim() == 2 else values[:, None]
        return values.expand_as(self.mask)[self.mask]


def random_batch(seed: int, *, rows: int = 4, per_token: bool = False) -> Random:
    """Ratios between about 0.4 and 2.5, so that every clip is met on both sides; rows of different lengths."""
    g = torch.Generator().manual_seed(seed)
    shape = (rows, WIDTH)
    old = -3 * torch.rand(shape, dtype=torch.float64, generator=g)
    now = old + 0.4 * torch.randn(shape, dtype=torch.float64, generator=g)
    lengths = torch.randint(3, WIDTH + 1, (rows,), generator=g)
    tool_mask = (torch.rand(shape, generator=g) < 0.7).long()
    tool_mask[:, 0] = 1
    return Random(
        now=now,
        old=old,
        reference=now + 0.5 * torch.randn(shape, dtype=torch.float64, generator=g),
        advantage=torch.randn(shape if per_token else (rows,), dtype=torch.float64, generator=g),
        completion_mask=(torch.arange(WIDTH)[None] < lengths[:, None]).long(),
        tool_mask=tool_mask,
    )


@contextmanager
def forward_gives(trainer: GRPOTrainer, logprobs: Tensor) -> Iterator[None]:
    """TRL's forward pass is replaced; everything it does with the result is its own."""

    def given(*_: Any, **__: Any) -> tuple[Tensor, Tensor, None]:
        return logprobs, torch.zeros_like(logprobs), None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "_get_per_token_logps_and_entropies", given)
        yield


def theirs(trainer: GRPOTrainer, batch: Random, **more: Tensor) -> tuple[Tensor, Tensor]:
    """TRL's loss of a batch, and its gradient with respect to the log-probs of the loss tokens, [m]."""
    leaf = batch.now.clone().requires_grad_()
    inputs = {
        "prompt_ids": torch.zeros(len(leaf), 1, dtype=torch.long),
        "prompt_mask": torch.ones(len(leaf), 1, dtype=torch.long),
        "completion_ids": torch.zeros(leaf.shape, dtype=torch.long),
        "completion_mask": batch.completion_mask,
        "tool_mask": batch.tool_mask,
        "advantages": batch.advantage,
        "old_per_token_logps": batch.old,
        "num_items_in_batch": batch.mask.sum(),
        **more,
    }
    with forward_gives(trainer, leaf):
        loss = trainer.compute_loss(trainer.model, inputs)
    loss.backward()
    assert leaf.grad is not None
    assert not leaf.grad[~batch.mask].any()
    return loss.detach(), leaf.grad[batch.mask]


def scales(average: str, batch: Random) -> Tensor:
    """What each loss token counts, [m]: the weights that turn a sum over tokens into the average."""
    rows = len(batch.mask)
    if average == "token":
        return batch.packed(1 / batch.mask.sum() * torch.ones(rows, dtype=torch.float64))
    if average == "sequence":
        return batch.packed(1 / (batch.mask.sum(1).double() * rows))
    return batch.packed(torch.full((rows,), 1 / (rows * WIDTH), dtype=torch.float64))


LOSSES = {"dapo": "token", "bnpo": "token", "grpo": "sequence", "dr_grpo": "constant"}


@pytest.mark.parametrize("per_token", [False, True], ids=["one-advantage", "advantage-per-token"])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_the_clipped_surrogate(make_trl_trainer: MakeTrainer, loss_type: str, per_token: bool) -> None:
    trainer = make_trl_trainer(loss_type=loss_type, epsilon=0.2, epsilon_high=0.28)
    for seed in range(5):
        batch = random_batch(seed, per_token=per_token)
        leaf = batch.now[batch.mask].clone().requires_grad_()
        ours = policy_gradient(
            leaf,
            batch.old[batch.mask],
            batch.packed(batch.advantage),
            scales(LOSSES[loss_type], batch),
            ratio="sampler",
            clip_low=0.2,
            clip_high=0.28,
        )
        ours.backward()
        loss, gradient = theirs(trainer, batch)
        torch.testing.assert_close(ours.detach(), loss, **TOLERANCE)
        torch.testing.assert_close(leaf.grad, gradient, **TOLERANCE)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_the_ratio_of_a_sequence(make_trl_trainer: MakeTrainer, loss_type: str) -> None:
    """GSPO. TRL differentiates the mean log-ratio, ours each token's own: with one advantage per row they are one."""
    trainer = make_trl_trainer(
        loss_type=loss_type, importance_sampling_level="sequence", epsilon=0.05, epsilon_high=0.1, beta=0.0
    )
    for seed in range(5):
        batch = random_batch(seed)
        leaf = batch.now[batch.mask].clone().requires_grad_()
        ours = policy_gradient(
            leaf,
            sequence_old(leaf, batch.old[batch.mask], batch.sequence),
            batch.packed(batch.advantage),
            scales(LOSSES[loss_type], batch),
            ratio="sampler",
            clip_low=0.05,
            clip_high=0.1,
        )
        ours.backward()
        loss, gradient = theirs(trainer, batch)
        torch.testing.assert_close(ours.detach(), loss, **TOLERANCE)
        torch.testing.assert_close(leaf.grad, gradient, **TOLERANCE)


def test_the_k3_penalty(make_trl_trainer: MakeTrainer) -> None:
    """Without TRL's factor of the ratio on the penalty, which ours does not have."""
    trainer = make_trl_trainer(loss_type="dapo", epsilon=0.2, epsilon_high=0.2, use_bias_correction_kl=False)
    trainer.beta = 0.3  # the constructor would load a reference model, whose log-probs the batch gives here
    batch = random_batch(0)
    leaf = batch.now[batch.mask].clone().requires_grad_()
    surrogate = policy_gradient(
        leaf,
        batch.old[batch.mask],
        batch.packed(batch.advantage),
        torch.ones_like(leaf),
        ratio="sampler",
        clip_low=0.2,
        clip_high=0.2,
    )
    ours = (surrogate + 0.3 * kl_k3(leaf, batch.reference[batch.mask])) / len(leaf)
    ours.backward()
    loss, gradient = theirs(trainer, batch, ref_per_token_logps=batch.reference)
    torch.testing.assert_close(ours.detach(), loss, **TOLERANCE)
    torch.testing.assert_close(leaf.grad, gradient, **TOLERANCE)


def test_reinforce_is_what_trl_does_where_it_has_no_old_logprobs(make_trl_trainer: MakeTrainer) -> None:
    """Generation and optimiser step aligned: TRL's ratio is one, with the gradient of the log-prob."""
    trainer = make_trl_trainer(loss_type="dapo")
    batch = random_batch(1, per_token=True)
    leaf = batch.now[batch.mask].clone().requires_grad_()
    ours = policy_gradient(
        leaf,
        batch.old[batch.mask],
        batch.packed(batch.advantage),
        scales("token", batch),
        ratio="none",
        clip_low=0.2,
        clip_high=0.2,
    )
    ours.backward()
    loss, gradient = theirs(trainer, batch, old_per_token_logps=None)  # type: ignore[arg-type]
    torch.testing.assert_close(ours.detach(), loss, **TOLERANCE)
    torch.testing.assert_close(leaf.grad, gradient, **TOLERANCE)


# -- what TRL computes when it has generated: importance weights and advantages --------------------------------------


def generated(trainer: GRPOTrainer, batch: Random) -> dict[str, Tensor]:
    """TRL's batch after generation; `batch.old` are the sampler's log-probs, `batch.now` the learner's."""
    lengths = batch.completion_mask.sum(1).tolist()

    def rows(values: Tensor) -> list[list[Any]]:
        return [row[:n].tolist() for row, n in zip(values, lengths, strict=True)]

    def rollout(prompts: list[str], trainer: Any) -> dict[str, Any]:
        ids = torch.full(batch.mask.shape, 7)
        return {
            "prompt_ids": [[5]] * len(prompts),
            "completion_ids": rows(ids),
            "logprobs": rows(batch.old),
            "env_mask": rows(batch.tool_mask),
        }

    trainer.rollout_func = rollout
    width = max(lengths)
    with forward_gives(trainer, batch.now[:, :width]):
        return trainer._generate_and_score_completions([{"prompt": "x"}] * len(lengths))


MODES = {
    "truncate": "token_truncate",
    "mask": "token_mask",
    "sequence_truncate": "sequence_truncate",
    "sequence_mask": "sequence_mask",
}


@pytest.mark.parametrize("mode", MODES)
def test_weights_for_a_sampler_that_differs(make_trl_trainer: MakeTrainer, mode: str) -> None:
    """Token level: the token's ratio. Sequence level: the product over the loss tokens of the sequence."""
    trainer = make_trl_trainer(loss_type="dapo", vllm_importance_sampling_mode=MODES[mode])
    trainer.use_vllm, trainer._last_loaded_step = True, 0  # correct as for vLLM, without a server to synchronise
    capped = 0
    for seed in range(5):
        batch = random_batch(seed)
        cap = 1.4
        trainer.vllm_importance_sampling_clip_min, trainer.vllm_importance_sampling_clip_max = None, cap
        output = generated(trainer, batch)
        width = output["completion_ids"].shape[1]
        mask = batch.mask[:, :width]
        expected = output["importance_sampling_ratio"].expand(mask.shape)[mask].double()
        now, sampler = batch.now[batch.mask], batch.old[batch.mask].float().double()  # TRL keeps float32 of the sampler
        ours = mismatch_weight(now, sampler, mode=mode, cap=cap, sequence=batch.sequence)  # type: ignore[arg-type]
        torch.testing.assert_close(ours, expected, **TOLERANCE)
        capped += int(((ours == 0) | (ours == cap)).sum())
    assert capped


def test_the_weighted_loss(make_trl_trainer: MakeTrainer) -> None:
    trainer = make_trl_trainer(loss_type="dapo", epsilon=0.2, epsilon_high=0.2)
    trainer.use_vllm, trainer.vllm_importance_sampling_correction = True, True
    batch = random_batch(2)
    weight = torch.rand(batch.mask.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(9)) * 2
    leaf = batch.now[batch.mask].clone().requires_grad_()
    ours = policy_gradient(
        leaf,
        batch.old[batch.mask],
        batch.packed(batch.advantage),
        weight[batch.mask] * scales("token", batch),
        ratio="recomputed",
        clip_low=0.2,
        clip_high=0.2,
    )
    ours.backward()
    loss, gradient = theirs(trainer, batch, importance_sampling_ratio=weight)
    torch.testing.assert_close(ours.detach(), loss, **TOLERANCE)
    torch.testing.assert_close(leaf.grad, gradient, **TOLERANCE)


RETURNS = np.array([0.0, 1.0, 0.25, 0.5, 3.0, 1.0, 2.0, 2.5])
GROUPS = np.array([0, 0, 0, 0, 1, 1, 1, 1])


def trl_advantages(make_trl_trainer: MakeTrainer, scale: str) -> np.ndarray:
    trainer = make_trl_trainer(
        rows=8, num_generations=4, scale_rewards=scale, reward=lambda completions, **_: RETURNS.tolist()
    )
    return generated(trainer, random_batch(0, rows=8))["advantages"].double().numpy()


def test_centred_returns(make_trl_trainer: MakeTrainer) -> None:
    ours = estimate("dr_grpo", RETURNS, GROUPS)
    np.testing.assert_allclose(ours, trl_advantages(make_trl_trainer, "none"), atol=1e-5)


def test_group_normalised_returns_up_to_the_convention_of_the_standard_deviation(make_trl_trainer: MakeTrainer) -> None:
    """TRL divides by the unbiased standard deviation plus 1e-4, ours by the population's."""
    by_group = RETURNS.reshape(2, 4)
    convention = ((by_group.std(axis=1, ddof=1) + 1e-4) / by_group.std(axis=1)).repeat(4)
    expected = trl_advantages(make_trl_trainer, "group") * convention
    np.testing.assert_allclose(estimate("grpo", RETURNS, GROUPS), expected, atol=1e-5)


def test_returns_normalised_over_the_batch_up_to_one_factor(make_trl_trainer: MakeTrainer) -> None:
    """Both have one scale for the batch. TRL's is the unbiased deviation of the returns, REINFORCE++'s of what is left
    once the group means are gone, so that groups of different difficulty do not count as variance."""
    left = estimate("dr_grpo", RETURNS, GROUPS).std()
    expected = trl_advantages(make_trl_trainer, "batch") * (RETURNS.std(ddof=1) + 1e-4) / left
    np.testing.assert_allclose(estimate("reinforce_pp", RETURNS, GROUPS), expected, atol=1e-5)


def test_a_group_without_variance_teaches_nothing(make_trl_trainer: MakeTrainer) -> None:
    flat = np.full(8, 0.7)
    trainer = make_trl_trainer(rows=8, num_generations=4, reward=lambda completions, **_: flat.tolist())
    found = generated(trainer, random_batch(0, rows=8))["advantages"].numpy()
    np.testing.assert_allclose(found, 0, atol=1e-3)  # TRL's 1e-4 leaves the rounding of a mean; ours is exact
    assert not estimate("grpo", flat, GROUPS).any()


def test_leave_one_out(make_policy: MakePolicy, tmp_path: Path) -> None:
    policy = make_policy()
    trainer = RLOOTrainer(
        model=policy.model,
        reward_funcs=lambda completions, **_: RETURNS.tolist(),
        args=RLOOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            gradient_checkpointing=False,
            num_generations=4,
            per_device_train_batch_size=8,
            max_completion_length=2,
            beta=0.0,
        ),
        train_dataset=Dataset.from_list([{"prompt": "wait"}] * 8),
        processing_class=policy.tokenizer,
    )
    found = trainer._generate_and_score_completions([{"prompt": "wait"}] * 8)["advantages"]
    np.testing.assert_allclose(estimate("rloo", RETURNS, GROUPS), found.double().numpy(), atol=1e-5)
