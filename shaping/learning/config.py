"""Settings of the learner."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LearnerConfig(BaseModel):
    """How a batch of episodes becomes an update of the policy."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    algorithm: Literal["grpo", "dr_grpo"] = Field("grpo", description="group baseline, with or without division by std")
    lr: float = Field(1e-3, gt=0)
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(1.0, gt=0)
    clip_low: float = Field(0.2, gt=0, description="lower clip of the policy ratio")
    clip_high: float = Field(0.2, gt=0, description="upper clip of the policy ratio")
    minibatches: int = Field(1, ge=1, description="optimiser steps per update, each on an equal share of its samples")
    token_budget: int = Field(8192, ge=16, description="tokens of one packed micro-batch")
    kl: float = Field(0.0, ge=0, description="coefficient of the KL to the reference policy (k3); 0: no reference")
    max_mismatch_kl: float = Field(0.05, gt=0, description="refuse to train above this sampler-learner KL per token")
    max_bad_steps: int = Field(3, ge=1, description="stop after so many steps in a row with a non-finite gradient")
    dtype: Literal["float32", "bfloat16"] = "float32"
