"""Settings of the learner."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Algorithm = Literal["grpo", "dr_grpo", "rloo", "reinforce_pp"]
CreditLevel = Literal["episode", "turn"]
RatioLevel = Literal["token", "sequence"]
KLEstimator = Literal["k1", "k2", "k3"]
MismatchCorrection = Literal["none", "truncate", "mask"]


class LearnerConfig(BaseModel):
    """How a batch of episodes becomes an update of the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Algorithm = Field("grpo", description="baseline and scale of the advantages; see docs/concepts.md")
    credit: CreditLevel = Field("episode", description="one advantage per episode, or per turn from its return-to-go")
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    clip_low: float = Field(0.2, gt=0, description="lower clip of the policy ratio")
    clip_high: float = Field(0.2, gt=0, description="upper clip of the ratio; DAPO's is above clip_low")
    ratio_level: RatioLevel = Field(
        "token", description="sequence: one ratio per sequence (GSPO); it varies less, so clip at 1e-4 to 1e-3"
    )
    entropy_coef: float = Field(0.0, ge=0, description="coefficient of the entropy bonus; 0: entropy is only measured")
    minibatches: int = Field(1, ge=1, description="optimiser steps per update, each on an equal share of its samples")
    token_budget: int = Field(8192, ge=16, description="tokens of one packed micro-batch")
    kl: float = Field(0.0, ge=0, description="coefficient of the KL to the reference policy; 0: no reference")
    kl_estimator: KLEstimator = Field(
        "k3", description="estimator of that KL; k2 has the KL's own gradient, k1's is zero on average"
    )
    mismatch_correction: MismatchCorrection = Field(
        "none", description="importance weights for sampler-learner mismatch, with ratio modes recompute and none"
    )
    mismatch_cap: float = Field(2.0, ge=1, description="largest importance weight; truncate: cap it, mask: drop it")
    max_mismatch_kl: float = Field(0.05, gt=0, description="refuse to train above this sampler-learner KL per token")
    max_bad_steps: int = Field(3, ge=1, description="stop after so many steps in a row with a non-finite gradient")
    dtype: Literal["float32", "bfloat16"] = "float32"
