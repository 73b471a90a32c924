"""The attack of relearning: what a deployed policy is trained on, and when it is looked at."""

from __future__ import annotations

from pydantic import Field

from launch.config.fields import Strict


class Attack(Strict):
    """A few bad episodes, cloned into a fresh adapter on top of a policy (compare arXiv:2512.05648)."""

    metric: str = Field("deception", min_length=1, description="metric of the evaluation that shows the trait")
    samples: int = Field(50, ge=1, le=1_000_000, description="bad episodes")
    persona: str = Field("overt_deny", min_length=1, description="who plays them")
    steps: int = Field(64, ge=1, le=1_000_000, description="optimiser steps at most")
    rank: int = Field(8, ge=1, le=10_000, description="rank of the adapter")
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate; models of full size need less")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="seed of episodes, batches and the adapter")
