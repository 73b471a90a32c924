"""The policy that a run starts from."""

from __future__ import annotations

from pathlib import Path

import torch

from launch.config.study import RunConfig
from shaping.arm import Arm
from shaping.hooks import AdapterSpec
from shaping.learning.config import LearnerConfig
from shaping.learning.policy import Policy


def load_policy(run: RunConfig, model: Path, arm: Arm, device: str) -> Policy:
    """The model with the adapters and the critic that the run trains. New adapters draw from torch's generator."""
    return Policy.load(
        model,
        dtype=getattr(torch, run.learner.dtype),
        temperature=run.train.temperature,
        device=device,
        adapters=[*kept_adapter(run.learner), *arm.adapters()],
        critics=1 + len(arm.constraints) if run.learner.algorithm == "ppo" else 0,
    )


def kept_adapter(learner: LearnerConfig) -> list[AdapterSpec]:
    """The adapter that is trained in place of the base weights, if the config asks for one."""
    lora = learner.lora
    return [AdapterSpec("kept", "kept", rank=lora.rank, alpha=lora.alpha, targets=lora.targets)] if lora else []
