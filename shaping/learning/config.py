"""Settings of the learner."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shaping.hooks import RatioMode
from shaping.learning.steps.rates import LRSchedule, lr_share

Algorithm = Literal["grpo", "dr_grpo", "rloo", "reinforce_pp", "ppo"]
AdvantageLevel = Literal["episode", "turn", "token"]
RatioLevel = Literal["token", "sequence"]
LossAggregation = Literal["token", "sequence", "constant"]
KLEstimator = Literal["k1", "k2", "k3"]
KLContext = Literal["training", "sampling"]
Overlong = Literal["train", "mask"]
OptimizerStates = Literal["float32", "bfloat16"]
MismatchCorrection = Literal[
    "none", "truncate", "mask", "sequence_truncate", "sequence_mask", "geometric_truncate", "geometric_mask"
]

SPREAD_FLOOR = 0.05
"""Smallest number that divides advantages, as a share of the largest |return|."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LoRAConfig(_Strict):
    """A LoRA adapter called `kept` that is trained instead of the base weights."""

    rank: int = Field(16, ge=1, le=10_000, description="rank of the adapter")
    alpha: float = Field(32.0, gt=0, le=1e6, description="LoRA alpha; the adapter's output is scaled by alpha / rank")
    targets: tuple[str, ...] = Field(
        (),
        description="linear modules, e.g. q_proj, and experts that are one tensor, e.g. experts.down_proj; none: all "
        "linear modules but the output layer",
    )


class CriticConfig(_Strict):
    """The value head of PPO. It has one output for the reward, and one for the cost of each constraint."""

    coef: float = Field(
        0.5, ge=0, le=1e6, description="coefficient of the value loss, in units of the targets' variance"
    )
    clip: float = Field(
        0.2, gt=0, le=1e9, description="largest change of a value within one update, in standard deviations"
    )
    gamma: float = Field(1.0, gt=0, le=1, description="discount per step; learner.advantage_level: turn or token")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="lambda of generalised advantage estimation")
    warmup: int = Field(
        0, ge=0, le=10_000_000, description="first updates, which fit only the value head, by least squares"
    )
    lr: float | None = Field(None, gt=0, le=10, description="learning rate of the value head; none: learner.lr")
    max_grad_norm: float = Field(
        1.0, gt=0, le=1e12, description="larger gradients of the value head are scaled to this norm, apart"
    )
    detach: bool = Field(False, description="keep the value loss out of the layers below the value head")


class LearnerConfig(_Strict):
    """Settings of an update of the policy from a batch of episodes."""

    algorithm: Algorithm = Field("grpo", description="estimator of advantages; see docs/concepts.md")
    advantage_level: AdvantageLevel = Field(
        "episode", description="one advantage per episode, per turn from its return-to-go, or (ppo) per token"
    )
    spread_floor: float = Field(
        SPREAD_FLOOR,
        ge=1e-6,
        le=1,
        description="smallest number that divides advantages (grpo, reinforce_pp, ppo), as a share of the largest "
        "|return|: a group's where each group has its own number, else the batch's",
    )
    lr: float | None = Field(
        None,
        gt=0,
        le=10,
        description="learning rate of AdamW; not set: 1e-3 for models below 20 million parameters, as organisms are, "
        "else 1e-6, or 1e-5 with LoRA",
    )
    lr_schedule: LRSchedule = Field(
        "constant", description="how every learning rate falls over the updates of the run, by update"
    )
    lr_warmup: int = Field(
        0, ge=0, le=10_000_000, description="first updates, over which every learning rate rises to its full size"
    )
    lr_end: float = Field(0.0, ge=0, le=1, description="share of the learning rate in the last update; not if constant")
    weight_decay: float = Field(0.0, ge=0, le=1000, description="weight decay of AdamW")
    max_grad_norm: float = Field(
        1.0, gt=0, le=1e12, description="larger gradients of the policy are scaled to this norm"
    )
    clip_low: float = Field(0.2, gt=0, le=1e9, description="lower clip of the policy ratio")
    clip_high: float = Field(0.2, gt=0, le=1e9, description="upper clip of the ratio; DAPO's is above clip_low")
    clip_dual: float | None = Field(
        None, gt=1, le=1e9, description="largest ratio that multiplies a negative advantage (dual clip, usually 3)"
    )
    ratio: RatioMode | None = Field(
        None,
        description="old log-probs of the policy ratio in all arms, so that arms do not differ in it: sampler, "
        "recomputed or none; not set: what each arm says",
    )
    ratio_level: RatioLevel = Field(
        "token", description="sequence: one ratio per sequence (GSPO); it varies less, so clip at 1e-4 to 1e-3"
    )
    loss_aggregation: LossAggregation = Field(
        "token", description="policy loss: mean over tokens, mean of sequence means, or sum per constant length"
    )
    aggregation_length: int = Field(
        256, ge=1, le=100_000_000, description="length that every sequence counts as, with loss_aggregation=constant"
    )
    entropy_coef: float = Field(
        0.0, ge=0, le=1e6, description="coefficient of the entropy bonus; 0: entropy is only measured"
    )
    epochs: int = Field(1, ge=1, le=10_000, description="passes over the samples of an update")
    minibatches: int = Field(
        1, ge=1, le=100_000, description="optimiser steps per pass, each on an equal share of the shuffled samples"
    )
    token_budget: int = Field(
        8192, ge=16, le=100_000_000, description="tokens of one packed micro-batch, and of the longest episode"
    )
    shared_prefixes: bool = Field(
        True,
        description="compute the common prefix of samples that begin alike once: same gradient but for rounding, less "
        "time and memory",
    )
    kl: float = Field(0.0, ge=0, le=1e6, description="coefficient of the KL to the reference policy; 0: no reference")
    kl_estimator: KLEstimator = Field(
        "k3", description="estimator of that KL; k2 has the KL's own gradient, the gradient of k1 is zero on average"
    )
    kl_context: KLContext = Field("training", description="context of both policies of that KL")
    mismatch_correction: MismatchCorrection = Field(
        "truncate",
        description="importance weights for sampler-learner mismatch and staleness, with ratio recomputed or none",
    )
    mismatch_cap: float = Field(
        2.0, ge=1, le=1e9, description="largest importance weight; truncate: cap it, mask: drop it"
    )
    overlong: Overlong = Field(
        "train",
        description="completions that reach train.max_tokens before they end: train, or mask, which takes them out of "
        "every loss; their rewards count in either case",
    )
    max_mismatch_kl: float = Field(
        0.05, gt=0, le=1e12, description="refuse to train above this sampler-learner KL per token"
    )
    max_bad_steps: int = Field(
        3, ge=1, le=1_000_000, description="stop after this many skipped (non-finite) steps in a row"
    )
    dtype: Literal["float32", "bfloat16"] = Field(
        "float32", description="type of the weights; see optimizer_states for the copies that bfloat16 weights need"
    )
    optimizer_states: OptimizerStates = Field(
        "float32",
        description="type of AdamW's moments; float32: it also steps float32 copies of bfloat16 weights; bfloat16: no "
        "copies, and weights and moments are rounded at random, which costs noise and saves 8 bytes per weight",
    )
    activation_checkpointing: bool = Field(False, description="recompute each layer in the backward pass: less memory")
    lora: LoRAConfig | None = Field(None, description="train a LoRA adapter; none: all weights")
    critic: CriticConfig = Field(CriticConfig(), description="critic of algorithm ppo")

    @model_validator(mode="after")
    def _levels(self) -> LearnerConfig:
        if self.algorithm == "ppo" and self.advantage_level == "episode":
            raise ValueError("algorithm ppo estimates advantages over steps: set advantage_level to turn or token")
        if self.algorithm != "ppo" and self.advantage_level == "token":
            raise ValueError(f"advantage_level=token needs a critic: algorithm ppo, not {self.algorithm}")
        return self

    def lr_share(self, update: int, updates: int | None) -> float:
        """Share of the learning rate in the 0-based `update` of `updates`: 1 after warm-up, `lr_end` in the last.

        Raises: ValueError if there is a schedule but no number of `updates`.
        """
        return lr_share(update, updates, warmup=self.lr_warmup, schedule=self.lr_schedule, end=self.lr_end)

    @property
    def lr_changes(self) -> bool:
        """True if the learning rate is not the same in all updates."""
        return self.lr_schedule != "constant" or self.lr_warmup > 0

    @property
    def several_steps(self) -> bool:
        """True if an update takes several optimiser steps, so that the policy changes within it."""
        return self.epochs * self.minibatches > 1
