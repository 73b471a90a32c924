"""A played group, and one update on it: what tests of plug-ins try them on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scripted_episodes import groups

from envs.episode import Episode
from shaping.arm import Arm
from shaping.contract.groups import small_policy
from shaping.learning.config import LearnerConfig
from shaping.learning.credit.credit import assign_credit
from shaping.learning.learner import Learner
from shaping.sampling.text.render import Renderer


def played_group() -> tuple[Episode, ...]:
    """A played group, whose options hold a table."""
    (members,) = groups("clerk")
    return tuple(replace(e, options={**e.options, "table": {"a": 1}}) for e in members)


def learned(arm: Arm, group: Sequence[Episode], paid: float = 1.0) -> Any:
    """One update of a small policy by this arm."""
    policy = small_policy()
    rewards = [paid * np.array([t.reward for t in e.turns]) for e in group]
    samples = assign_credit(group, rewards, arm, Renderer(policy.tokenizer)).samples
    return Learner(policy, LearnerConfig(max_mismatch_kl=1e9), interventions=arm.interventions).update(samples)
